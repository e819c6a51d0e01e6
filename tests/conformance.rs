//! docs/conformance.md tells the truth: each test that it names is there, each field that `oci-spec` reads has a row, and
//! no row is without a place and a test.
//!
//! The fields are asked of `oci-spec` itself: a deserializer that says yes to everything is told by each type which
//! fields it has. So a newer `oci-spec` with a new field fails here until the field has a row.

#![allow(clippy::unwrap_used)]

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

struct Row {
    section: String,
    what: String,
    place: String,
    tests: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let mut section = String::new();
    let mut rows = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if !line.starts_with('|') || cells[1] == "field or rule" || cells[1].starts_with("---") {
            continue;
        }
        assert_eq!(cells.len(), 5, "a row has three cells: {line}");
        rows.push(Row {
            section: section.clone(),
            what: cells[1].to_owned(),
            place: cells[2].to_owned(),
            tests: cells[3].split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect(),
        });
    }
    rows
}

/// The names in backticks.
fn fields(what: &str) -> Vec<String> {
    what.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_row_has_a_place_and_tests_that_are_there() {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    let rows = rows();
    for row in &rows {
        if row.what.is_empty() || row.place.is_empty() || row.tests.is_empty() {
            wrong.push(format!("empty: {} | {} | {:?}", row.what, row.place, row.tests));
        }
        for word in ["partly", "TODO", "not yet", "planned"] {
            if row.what.contains(word) || row.place.contains(word) {
                wrong.push(format!("{word}: {}", row.what));
            }
        }
        for place in row.place.split(',').map(|p| p.split_whitespace().next().unwrap_or_default()) {
            if !root().join(place).exists() {
                wrong.push(format!("no such place: {place} of {}", row.what));
            }
        }
        for test in &row.tests {
            let Some((file, name)) = test.split_once("::") else {
                wrong.push(format!("not file::name: {test}"));
                continue;
            };
            let path = match file.strip_prefix("src/") {
                Some(_) => root().join(file),
                None => root().join("tests").join(format!("{file}.rs")),
            };
            let text = files.entry(path.clone()).or_insert_with(|| std::fs::read_to_string(&path).unwrap_or_default());
            let declared = text.lines().zip(text.lines().skip(1)).any(|(above, line)| {
                above.trim_start().starts_with("#[") && line.trim_start().starts_with(&format!("fn {name}("))
            });
            if !declared {
                wrong.push(format!("no such test: {test} of {}", row.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for section in ["config.md", "config-linux.md", "runtime.md", "runtime-linux.md", "features.md"] {
        assert!(rows.iter().filter(|r| r.section.starts_with(section)).count() >= 3, "{section}");
    }
}

#[test]
fn every_field_that_is_read_has_a_row() {
    let documented = |from: &[&str]| -> BTreeSet<String> {
        let rows = rows();
        rows.iter().filter(|r| from.iter().any(|s| r.section.starts_with(s))).flat_map(|r| fields(&r.what)).collect()
    };
    // Other platforms' own: the whole field is refused, so nothing below it is read.
    let foreign = |path: &String| ["solaris.", "windows.", "vm.", "zos."].iter().all(|p| !path.starts_with(p));
    // oci-spec's own: fields that the specification does not have there (bundle.rs calls them unknown), and two that it
    // spells otherwise (bundle/mend.rs).
    let own = |path: &String| {
        ["uidMappings", "gidMappings", "linux.intelRdt.enableCmt", "linux.intelRdt.enableMbm"]
            .iter()
            .all(|p| !path.starts_with(p))
    };
    let config = known::<oci_spec::runtime::Spec>().into_iter().filter(foreign).filter(own);
    let config: BTreeSet<String> = config.collect();
    assert!(config.len() > 200 && config.contains("linux.seccomp.syscalls[].args[].op"), "{config:?}");
    let rows = documented(&["config.md", "config-linux.md"]);
    let missing: Vec<&String> = config.difference(&rows).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    // Names of ours that the specification has where oci-spec has another, and a row that names a field that there is not.
    let renamed = ["linux.intelRdt.enableCMT", "linux.intelRdt.enableMBM"];
    let odd: Vec<&String> = rows
        .iter()
        .filter(|f| f.contains('.') && !f.contains('/') && !config.contains(*f) && !renamed.contains(&f.as_str()))
        .collect();
    assert!(odd.is_empty(), "rows of fields that nobody reads: {odd:?}");

    let features = known::<oci_spec::runtime::Features>();
    let rows = documented(&["features"]);
    // A row of what an object holds speaks of the object, too.
    let missing: Vec<&String> = features
        .iter()
        .filter(|f| !rows.contains(*f) && !rows.iter().any(|r| r.starts_with(&format!("{f}."))))
        .collect();
    assert!(features.len() > 25 && missing.is_empty(), "no row for {missing:?}");
}

// ---------------------------------------------------------------- what a type reads

/// The paths of all fields that a type reads: `a.b`, `a[].b` for lists, `a.*.b` for maps.
fn known<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    let seen = RefCell::new(BTreeSet::new());
    T::deserialize(Yes { path: String::new(), seen: &seen, depth: 0 }).map(drop).unwrap_or_else(|e| panic!("{e}"));
    seen.into_inner()
}

/// A deserializer that has whatever it is asked for.
struct Yes<'a> {
    path: String,
    seen: &'a RefCell<BTreeSet<String>>,
    depth: u32,
}

type Fault = de::value::Error;

impl<'a> Yes<'a> {
    fn below(&self, path: String) -> Yes<'a> {
        Yes { path, seen: self.seen, depth: self.depth + 1 }
    }
}

/// One item: of a list, or of a map.
struct Once<'a>(Option<Yes<'a>>);

impl<'de> de::SeqAccess<'de> for Once<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.take().map(|yes| seed.deserialize(yes)).transpose()
    }
}

impl<'de> de::MapAccess<'de> for Once<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        match self.0 {
            Some(_) => seed.deserialize("key".into_deserializer()).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(self.0.take().unwrap())
    }
}

/// The fields of a struct, one after the other.
struct Fields<'a> {
    yes: Yes<'a>,
    names: std::slice::Iter<'static, &'static str>,
    now: &'static str,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        match self.names.next() {
            Some(name) => {
                self.now = name;
                seed.deserialize(name.into_deserializer()).map(Some)
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let above = &self.yes.path;
        let path = if above.is_empty() { self.now.to_owned() } else { format!("{above}.{}", self.now) };
        self.yes.seen.borrow_mut().insert(path.clone());
        seed.deserialize(self.yes.below(path))
    }
}

macro_rules! number {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(1)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Yes<'_> {
    type Error = Fault;

    number! {
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(true)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // The one string that is more than a string to oci-spec.
        visitor.visit_str(if self.path.starts_with("process.capabilities.") { "CAP_KILL" } else { "1" })
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Once(Some(self.below(format!("{}[]", self.path)))))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(Once(Some(self.below(format!("{}.*", self.path)))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        assert!(self.depth < 32, "{} has no end", self.path);
        visitor.visit_map(Fields { yes: self, names: names.iter(), now: "" })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(variants[0].into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[test]
fn the_deserializer_sees_lists_maps_and_what_is_below_them() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        list: Option<Vec<Inner>>,
        map: std::collections::HashMap<String, Inner>,
        path: Option<Box<Path>>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        number: u8,
    }
    let expected = ["list", "list[].number", "map", "map.*.number", "path"];
    assert_eq!(known::<Outer>().into_iter().collect::<Vec<_>>(), expected);
}
