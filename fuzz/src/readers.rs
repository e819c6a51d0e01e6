//! What must hold of the readers of files that somebody else may have written or torn: the image's passwd and group, and
//! the records of a container.

use super::checks::{host, one_line, policy};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use stockade::bundle::Bundle;
use stockade::init::users;
use stockade::plan::exec::{self, Confinement, Request};
use stockade::plan::{Options, Plan, Step, explain};
use stockade::policy::Above;
use stockade::state::{State, Status, Store};

// ---------------------------------------------------------------- passwd and group

/// A user as typed, passwd and group, with a byte between them that UTF-8 does not have.
pub fn accounts(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == 0xff).map(String::from_utf8_lossy);
    let [text, passwd, group] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let want = account(&text, &passwd, &group);
    match users::find(&text, &passwd, &group) {
        Ok(user) => {
            assert_eq!(Some((user.uid, user.gid, user.groups.clone())), want, "{text:?}");
            assert!(user.uid < 1 << 31 && user.gid < 1 << 31 && user.groups.iter().all(|g| *g < 1 << 31));
            let home = users::home_in(&passwd, user.uid);
            assert!(home.is_none_or(|h| h.starts_with('/') && !h.contains([':', '\n', '\0'])), "a home of no kind");
        }
        Err(e) => {
            one_line(&e);
            assert_eq!(want, None, "{text:?}: {e}");
        }
    }
}

/// The plain reading: uid, gid, the other groups.
fn account(text: &str, passwd: &str, group: &str) -> Option<(u32, u32, Vec<u32>)> {
    fn table(text: &str) -> Vec<Vec<&str>> {
        // The last line ends without a newline, and a return at its end is a part of it.
        let (lines, last) = text.rsplit_once('\n').unwrap_or(("", text));
        let lines = lines.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        lines.chain([last]).map(|line| line.split(':').collect()).collect()
    }
    fn number(text: &str) -> Option<u32> {
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let digits = text.trim_start_matches('0');
        let n = if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
        n.filter(|n| *n < 1 << 31).map(|n| n as u32)
    }
    // With or without a sign, and however large.
    fn looks_like_number(text: &str) -> bool {
        let mut chars = text.chars().peekable();
        chars.next_if(|c| matches!(c, '+' | '-'));
        chars.peek().is_some() && chars.all(|c| c.is_ascii_digit())
    }
    let (users, groups) = (table(passwd), table(group));
    let number_at = |line: &[&str], at: usize| line.get(at).and_then(|t| number(t));
    let (name, wanted) = match text.find(':') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (uid, own) = if let Some(uid) = number(name) {
        let mut own = 0;
        for line in users.iter().rev() {
            if let (true, Some(gid)) = (number_at(line, 2) == Some(uid), number_at(line, 3)) {
                own = gid;
            }
        }
        (uid, own)
    } else if name.is_empty() || looks_like_number(name) {
        return None;
    } else {
        let line = users.iter().find(|line| line[0] == name)?;
        (number_at(line, 2)?, number_at(line, 3)?)
    };
    match wanted {
        Some(wanted) => {
            let by_name =
                || groups.iter().find(|l| !looks_like_number(wanted) && l[0] == wanted && number_at(l, 2).is_some());
            let gid = number(wanted).or_else(|| number_at(by_name()?, 2))?;
            Some((uid, gid, vec![]))
        }
        None => {
            let mut others = vec![];
            for line in &groups {
                let listed = number(name).is_none() && line.get(3).is_some_and(|m| m.split(',').any(|m| m == name));
                others.extend(number_at(line, 2).filter(|gid| listed && *gid != own));
            }
            Some((uid, own, others))
        }
    }
}

// ---------------------------------------------------------------- the records of a container

/// The files of a container's directory, in the order of the input; NUL stands between them, which JSON never has.
const FILES: [&str; 4] = ["state.json", "intent.json", "confinement.json", "failure"];

/// A container's records as bytes: each is read whole or not at all, one stands in for another, and what an exec makes of
/// them is never less confined than they say. `root` is a directory to work in. Tells whether an exec could be planned.
pub fn records(root: &Path, data: &[u8]) -> bool {
    let dir = root.join("box");
    fs::create_dir_all(&dir).expect("a directory");
    let mut parts = data.splitn(FILES.len(), |b| *b == 0);
    for file in FILES {
        match parts.next().filter(|bytes| !bytes.is_empty()) {
            Some(bytes) if file == "confinement.json" => fs::write(dir.join(file), of_today(bytes)).expect("a file"),
            Some(bytes) => fs::write(dir.join(file), bytes).expect("a file"),
            None => drop(fs::remove_file(dir.join(file))),
        }
    }
    let is_json = |file: &str| {
        fs::read(dir.join(file)).is_ok_and(|b| serde_json::from_str::<Value>(&String::from_utf8_lossy(&b)).is_ok())
    };
    let store = Store::open(Some(root)).expect("a store");
    let entry = store.entry("box").expect("an entry");
    let state = entry.state().expect("a small file");
    let intent = entry.intent().expect("a small file");
    assert!(state.is_none() || is_json("state.json"), "a state out of what is no JSON");
    assert!(intent.is_none() || is_json("intent.json") || state.is_some(), "an intent out of nothing");
    if !is_json("intent.json") {
        let copy = state.as_ref().and_then(|s| s.intent.clone());
        assert_eq!(intent.as_ref().map(text), copy.as_ref().map(text), "the copy does not stand in");
    }
    match entry.require() {
        Ok((state, status)) => {
            let shown = text(&state.to_oci(status));
            // JSON escapes what is below a space; a DEL in a path stays one.
            assert!(!shown.chars().any(|c| c < ' '), "a state of more than one line");
            assert!(status != Status::Creating);
        }
        Err(e) => {
            one_line(&e);
            // The one error that a state does not prevent is a cgroup that is none.
            assert!(state.is_none() || entry.status().is_err(), "a state that is not taken: {e}");
        }
    }
    let _ = entry.cgroup().map_err(|e| one_line(&e));
    let _ = entry.failure().map(|e| one_line(&e));
    if let Some(state) = state {
        whole_or_absent(&entry, &dir, &state);
    }
    confined(&entry)
}

/// A recorded confinement with the fields that it lacks: one that was recorded before a field was there would be refused
/// for that alone, and say nothing more.
fn of_today(bytes: &[u8]) -> Vec<u8> {
    static TODAY: OnceLock<Value> = OnceLock::new();
    fn fill(value: &mut Value, from: &Value) {
        if let (Value::Object(map), Value::Object(from)) = (value, from) {
            for (key, more) in from {
                fill(map.entry(key).or_insert_with(|| more.clone()), more);
            }
        }
    }
    let Some(mut value) = serde_json::from_slice::<Value>(bytes).ok().filter(|v| v.get("filters").is_some()) else {
        return bytes.to_vec();
    };
    let today = TODAY.get_or_init(|| {
        let config = br#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},"root":{"path":"rootfs"}}"#;
        let (spec, unknown) = stockade::bundle::parse(config).expect("a config");
        let bundle = Bundle { dir: "/bundle".into(), rootfs: "/bundle/rootfs".into(), spec, unknown };
        let options = Options { id: "box".into(), ..Options::default() };
        let plan = stockade::plan::plan(&bundle, policy("strict"), &host(0), &options).expect("a plan");
        serde_json::to_value(&plan.confinement).expect("JSON")
    });
    fill(&mut value, today);
    value.to_string().into_bytes()
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

/// What is written is read, and a torn copy of it is none.
fn whole_or_absent(entry: &stockade::state::Entry, dir: &Path, state: &State) {
    entry.write_state(state).expect("a write");
    let again = entry.state().expect("a read").map(|s| text(&s));
    assert_eq!(again, Some(text(state)));
    let bytes = fs::read(dir.join("state.json")).expect("a read");
    for part in [1, 5, 9, 13] {
        fs::write(dir.join("state.json"), &bytes[..bytes.len() * part / 16]).expect("a write");
        assert!(entry.state().expect("a read").is_none(), "half a state is a state");
        entry.require().expect_err("half a state is a container");
    }
}

/// The ladder of an exec after the recorded confinement, of one that asks for nothing and of one that wants all.
fn confined(entry: &stockade::state::Entry) -> bool {
    let confinement = match entry.confinement() {
        Ok(confinement) => confinement,
        Err(e) => {
            one_line(&e);
            return false;
        }
    };
    let filters: Vec<Value> = confinement.filters.iter().filter_map(|f| serde_json::to_value(f).ok()).collect();
    let whole = filters.iter().all(|f| {
        let program = f["program"].as_str().unwrap_or_default();
        !program.is_empty() && program.len().is_multiple_of(16) && program.chars().all(|c| c.is_ascii_hexdigit())
    });
    let mut planned = false;
    for more in [0, u64::MAX] {
        let request = Request {
            id: "box".into(),
            process: confinement.process.clone(),
            user: None,
            more,
            cgroup: None,
            init_cgroup: None,
            scope: None,
            exposed: None,
            privileged: true,
            preserve_fds: 0,
        };
        match exec::plan(&confinement, request) {
            Ok(plan) => {
                assert!(whole, "a damaged filter lets a process in");
                entered(&plan, &confinement);
                planned = true;
            }
            Err(e) => one_line(&e),
        }
    }
    planned
}

fn entered(plan: &Plan, confinement: &Confinement) {
    let count = |is: fn(&Step) -> bool| plan.steps.iter().filter(|s| is(s)).count();
    assert_eq!(count(|s| matches!(s, Step::Exec { .. })), 1);
    assert!(matches!(plan.steps.last(), Some(Step::Exec { .. })), "something comes after the exec");
    assert_eq!(count(|s| matches!(s, Step::Seccomp { .. })), confinement.filters.len(), "a filter is lost");
    if confinement.no_new_privs {
        assert_eq!(count(|s| matches!(s, Step::NoNewPrivs)), 1, "no_new_privs is lost");
    }
    for step in &plan.steps {
        match step {
            Step::Enter { namespaces, .. } => assert_eq!(namespaces, &confinement.namespaces),
            Step::Bounding { keep, .. } if confinement.above != Above::Allow => {
                assert_eq!(keep & !confinement.caps.bounding, 0, "a capability that init never had");
            }
            _ => {}
        }
    }
    let shown = explain::text(plan, &host(0));
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "explain prints control characters");
}
