//! Decide: which environment variables look like secrets. What they hold is never shown: a report is read by many.

/// Words that name a secret wherever they stand in a name.
const WITHIN: [&str; 8] = ["PASSWD", "PASSWORD", "PASSPHRASE", "SECRET", "TOKEN", "APIKEY", "CREDENTIAL", "PRIVATEKEY"];
/// Words that do so only by themselves: a COMPASS is none.
const ALONE: [&str; 3] = ["PASS", "PRIVATE", "CREDS"];
/// Words of names whose values are long and random, and public.
const PUBLIC: [&str; 9] = ["SHA", "SHA1", "SHA256", "SHA512", "GPG", "DIGEST", "CHECKSUM", "COMMIT", "HASH"];

/// Why `NAME=VALUE` looks like a secret; none: it does not.
pub fn suspicious(entry: &str) -> Option<&'static str> {
    let (name, value) = entry.split_once('=')?;
    let upper = name.to_ascii_uppercase();
    let words: Vec<&str> = upper.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let joined: String = words.concat();
    // NAME_FILE=/run/secrets/x is the remedy, not the disease.
    let names_file = value.starts_with('/') && words.last().is_some_and(|w| matches!(*w, "FILE" | "PATH" | "DIR"));
    if value.is_empty() || names_file {
        return None;
    }
    let named = WITHIN.iter().any(|w| joined.contains(w)) || words.iter().any(|w| ALONE.contains(w));
    if named {
        return Some("its name");
    }
    if value.contains("-----BEGIN") && !value.contains("BEGIN CERTIFICATE") && !value.contains("BEGIN PUBLIC KEY") {
        return Some("a key in PEM");
    }
    let user = value.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next()?.rsplit_once('@'));
    if user.is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, password)| !password.is_empty())) {
        return Some("a password in a URL");
    }
    if !words.iter().any(|w| PUBLIC.contains(w)) && random(value) {
        return Some("a long random value");
    }
    None
}

/// Long, without the blanks and slashes of text and paths, of letters and digits mixed, and with few repetitions.
fn random(value: &str) -> bool {
    let of_keys = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | '-' | '_' | '.');
    let mixed = value.chars().any(|c| c.is_ascii_digit()) && value.chars().any(|c| c.is_ascii_alphabetic());
    if value.len() < 20 || !mixed || !value.chars().all(of_keys) {
        return false;
    }
    let mut counts = [0u32; 128];
    for b in value.bytes() {
        counts[usize::from(b & 0x7f)] += 1;
    }
    let length = value.len() as f64;
    let entropy: f64 =
        counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length).map(|share| -share * share.log2()).sum();
    let hex = value.chars().all(|c| c.is_ascii_hexdigit());
    // 4 bits a character is all that hex can have; words and versions stay below 4 in other alphabets.
    if hex { value.len() >= 32 && entropy > 3.2 } else { entropy > 4.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_that_look_like_secrets() {
        for entry in [
            "DB_PASSWORD=x",
            "dbpassword=x",
            "GITHUB_TOKEN=1",
            "API_KEY=1",
            "AWS_SECRET_ACCESS_KEY=1",
            "PASS=1",
            "SSH_PRIVATE_KEY=1",
            "A=-----BEGIN RSA PRIVATE KEY-----",
            "URL=postgres://me:hunter2@db/x",
            "X=AKIAIOSFODNN7EXAMPLEwJalrXUtnFEMI",
            "X=0123456789abcdef0f1e2d3c4b5a69788796a5b4",
        ] {
            assert!(suspicious(entry).is_some(), "{entry}");
        }
    }

    #[test]
    fn what_is_ordinary_is_none() {
        for entry in [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "COMPASS=north",
            "DB_PASSWORD_FILE=/run/secrets/db",
            "PASSWORD=",
            "GPG_KEY=E3FF2839C048B25C084DEBE9B26995E310250568",
            "PYTHON_SHA256=0123456789abcdef0f1e2d3c4b5a69788796a5b40123456789abcdef0f1e2d3c",
            "TERM=xterm-256color",
            "URL=https://example.com/a@b",
            "LS_COLORS=rs=0:di=01;34",
            "PWD=/home/somebody/1234567890",
            "VERSION=1.2.3-20230101-abcdefg",
            "HOSTNAME=aaaaaaaaaaaaaaaaaaaaaaaa1",
            "no equals sign",
        ] {
            assert_eq!(suspicious(entry), None, "{entry}");
        }
    }
}
