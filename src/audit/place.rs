//! Decide: in which line of a config.json a field is.
//!
//! The text has been parsed before, so this is no parser: it follows the brackets of well-formed JSON, and on any other it
//! ends early. serde_json takes no more than 128 levels, and neither does this.

use std::collections::{BTreeMap, BTreeSet};

const MAX_DEPTH: usize = 128;

/// The lines of these fields, and of those that they lie in, by JSON pointer.
pub fn lines<'p>(text: &str, pointers: impl Iterator<Item = &'p str>) -> BTreeMap<String, usize> {
    let mut wanted = BTreeSet::new();
    for pointer in pointers {
        for (i, _) in pointer.match_indices('/').skip(1) {
            wanted.insert(pointer[..i].to_owned());
        }
        wanted.insert(pointer.to_owned());
    }
    let mut scan = Scan { text: text.as_bytes(), at: 0, line: 1, wanted, found: BTreeMap::new() };
    let _ = scan.value(&mut String::new(), 0);
    scan.found
}

/// The line of a field, or of the innermost that there is around it.
pub fn line_of(lines: &BTreeMap<String, usize>, pointer: &str) -> usize {
    let mut pointer = pointer;
    loop {
        if let Some(line) = lines.get(pointer) {
            return *line;
        }
        match pointer.rsplit_once('/') {
            Some((parent, _)) => pointer = parent,
            None => return 1,
        }
    }
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    wanted: BTreeSet<String>,
    found: BTreeMap<String, usize>,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        while let Some(b) = self.text.get(self.at) {
            match b {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' | b',' | b':' => {}
                other => return Some(*other),
            }
            self.at += 1;
        }
        None
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&str> {
        let begin = self.at;
        self.at += 1;
        while *self.text.get(self.at)? != b'"' {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        std::str::from_utf8(self.text.get(begin..self.at)?).ok()
    }

    fn value(&mut self, pointer: &mut String, depth: usize) -> Option<()> {
        let first = self.peek()?;
        if self.wanted.contains(pointer.as_str()) {
            let line = self.line;
            self.found.entry(pointer.clone()).or_insert(line);
        }
        match first {
            b'{' | b'[' if depth >= MAX_DEPTH => None,
            b'{' | b'[' => {
                self.at += 1;
                let (length, mut index) = (pointer.len(), 0);
                loop {
                    match self.peek()? {
                        b'}' | b']' => break,
                        b'"' if first == b'{' => {
                            let line = self.line;
                            let key: String = serde_json::from_str(self.string()?).ok()?;
                            pointer.push('/');
                            pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                            if self.wanted.contains(pointer.as_str()) {
                                self.found.insert(pointer.clone(), line);
                            }
                        }
                        _ => {
                            pointer.push_str(&format!("/{index}"));
                            index += 1;
                        }
                    }
                    self.value(pointer, depth + 1)?;
                    pointer.truncate(length);
                }
                self.at += 1;
                Some(())
            }
            b'"' => self.string().map(drop),
            _ => {
                let rest = &self.text[self.at..];
                let length = rest.iter().position(|b| b",]} \t\r\n".contains(b)).unwrap_or(rest.len());
                self.at += length.max(1);
                Some(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_their_lines() {
        let text = "{\n \"a\": 1,\n \"b\": {\n  \"c\\\"/\": [\n   {\"d\": \"}\"},\n   true\n  ]\n },\n \"e\": -1.5e3 }";
        let wanted = ["/a", "/b/c\"~1/0/d", "/b/c\"~1/1", "/e", "/b/x/y"];
        let found = lines(text, wanted.into_iter());
        let at = |p: &str| line_of(&found, p);
        assert_eq!((at("/a"), at("/b"), at("/b/c\"~1")), (2, 3, 4));
        assert_eq!((at("/b/c\"~1/0/d"), at("/b/c\"~1/1"), at("/e")), (5, 6, 9));
        // What is not there is where it would be.
        assert_eq!((at("/b/x/y"), at("/nowhere")), (3, 1));
    }

    #[test]
    fn torn_and_deep_texts_end() {
        for text in ["", "{", "{\"a\"", "{\"a\":\"x", "[[", "{\"a\":\"\\", "}", "\"\\\""] {
            let _ = lines(text, ["/a/0"].into_iter());
        }
        let _ = lines(&"[".repeat(1 << 20), ["/0"].into_iter());
    }
}
