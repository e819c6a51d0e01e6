//! Read: JSON into types of ours and of oci-spec, with the path of a wrong value and of every field that nobody knows.
//!
//! The text is read into a tree first, and the types from the tree. One concrete deserializer for all types keeps the
//! binary small: a generic wrapper around another deserializer is compiled once more for every type. The tree keeps a key that
//! comes twice, so that the type refuses it; a parser that takes the last one would read what another reader does not see. Its
//! strings are those of the text, where they need no unescaping.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// At most this many unknown fields are named, and as many as fill a little more than this many bytes: each is named with
/// the keys above it, which may be as long as the text.
const MAX_UNKNOWN: usize = 65_536;
const MAX_NAMES: usize = 4 << 20;

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The value, as `linux.namespaces[1].type`; empty: the text as a whole.
    pub path: String,
    /// What about it.
    pub why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.why) } else { write!(f, "{}: {}", self.path, self.why) }
    }
}

/// One value and nothing after it, and the paths of the fields that its type does not know.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<(T, Vec<String>), Wrong> {
    Node::parse(text)?.read()
}

/// One value; what its type does not know is skipped.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, Wrong> {
    read(text).map(|(value, _)| value)
}

/// The same of text.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    from_slice(text.as_bytes())
}

/// The same of a value that is read already.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Wrong> {
    Node::from(value).read().map(|(value, _)| value)
}

/// A value of JSON. An object is a list: a key may come twice.
#[derive(Debug, Clone, PartialEq)]
pub enum Node<'a> {
    /// null
    Null,
    /// true or false
    Bool(bool),
    /// A whole number from 0
    Positive(u64),
    /// One below
    Negative(i64),
    /// Any other number
    Float(f64),
    /// A string
    Text(Cow<'a, str>),
    /// An array
    List(Vec<Node<'a>>),
    /// An object
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// One value and nothing after it.
    pub fn parse(text: &'a [u8]) -> Result<Node<'a>, Wrong> {
        serde_json::from_slice(text).map_err(|e| Wrong { path: String::new(), why: e.to_string() })
    }

    /// The value that a type makes of it, and the paths of the fields that the type does not know.
    pub fn read<T: DeserializeOwned>(&self) -> Result<(T, Vec<String>), Wrong> {
        let track = RefCell::default();
        let value = T::deserialize(At { node: self, path: &Path::Root, track: &track });
        let Track { wrong, mut unknown, .. } = track.into_inner();
        match value {
            Ok(value) => {
                unknown.sort();
                Ok((value, unknown))
            }
            Err(e) => Err(Wrong { path: wrong.unwrap_or_default(), why: e.0 }),
        }
    }

    /// Takes a key out of an object.
    pub fn take(&mut self, key: &str) -> Option<Node<'a>> {
        let Node::Object(map) = self else { return None };
        let at = map.iter().position(|(k, _)| k == key)?;
        Some(map.remove(at).1)
    }

    /// Objects are merged key by key, everything else is replaced. A key that comes twice in `over` does so afterwards.
    pub fn merge(&mut self, over: Node<'a>) {
        match (self, over) {
            (Node::Object(base), Node::Object(over)) => {
                let mut taken = vec![false; base.len()];
                for (key, value) in over {
                    match taken.iter().enumerate().position(|(at, taken)| !taken && base[at].0 == key) {
                        Some(at) => {
                            taken[at] = true;
                            base[at].1.merge(value);
                        }
                        None => base.push((key, value)),
                    }
                }
            }
            (base, over) => *base = over,
        }
    }
}

impl<'a> From<&'a Value> for Node<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Node::Null,
            Value::Bool(b) => Node::Bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => Node::Positive(n),
                (None, Some(n)) => Node::Negative(n),
                (None, None) => Node::Float(n.as_f64().unwrap_or_default()),
            },
            Value::String(s) => Node::Text(s.into()),
            Value::Array(list) => Node::List(list.iter().map(Node::from).collect()),
            Value::Object(map) => Node::Object(map.iter().map(|(k, v)| (k.into(), Node::from(v))).collect()),
        }
    }
}

/// The key of an object, of the text where that has it as it is.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl<'de> Visitor<'de> for Word {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(v.to_owned())))
            }
        }
        deserializer.deserialize_str(Word)
    }
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of JSON")
            }
            fn visit_unit<E>(self) -> Result<Node<'de>, E> {
                Ok(Node::Null)
            }
            fn visit_bool<E>(self, v: bool) -> Result<Node<'de>, E> {
                Ok(Node::Bool(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Node<'de>, E> {
                Ok(Node::Positive(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Node<'de>, E> {
                Ok(Node::Negative(v))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Node<'de>, E> {
                Ok(Node::Float(v))
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Node<'de>, E> {
                Ok(Node::Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Node<'de>, E> {
                Ok(Node::Text(Cow::Owned(v.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some(node) = list.next_element()? {
                    all.push(node);
                }
                Ok(Node::List(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    all.push((key, value));
                }
                Ok(Node::Object(all))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Why a type does not take a value.
#[derive(Debug)]
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl serde::de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure(message.to_string())
    }
}

/// Where a value is.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(above, key) => write!(f, "{above}.{key}"),
            Path::Index(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

#[derive(Default)]
struct Track {
    /// The innermost value that failed.
    wrong: Option<String>,
    unknown: Vec<String>,
    /// The bytes of those.
    names: usize,
}

/// The deserializer: a value in its place.
#[derive(Clone, Copy)]
struct At<'de, 'p> {
    node: &'de Node<'de>,
    path: &'p Path<'p>,
    track: &'p RefCell<Track>,
}

impl At<'_, '_> {
    /// Notes the place of a failure, if none further in is noted.
    fn noted<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        if result.is_err() {
            self.track.borrow_mut().wrong.get_or_insert_with(|| self.path.to_string());
        }
        result
    }
}

impl<'de> Deserializer<'de> for At<'de, '_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let value = match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(b) => visitor.visit_bool(*b),
            Node::Positive(n) => visitor.visit_u64(*n),
            Node::Negative(n) => visitor.visit_i64(*n),
            Node::Float(n) => visitor.visit_f64(*n),
            Node::Text(s) => visitor.visit_borrowed_str(s),
            Node::List(list) => visitor.visit_seq(Elements { list: list.iter(), index: 0, of: self }),
            Node::Object(map) => visitor.visit_map(Entries { map: map.iter(), entry: None, of: self }),
        };
        self.noted(value)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let value = match self.node {
            Node::Text(variant) => visitor.visit_enum(BorrowedStrDeserializer::new(variant)),
            Node::Object(map) if map.len() == 1 => visitor.visit_enum(Variant { entry: &map[0], of: self }),
            Node::Object(_) => Err(Failure::invalid_value(Unexpected::Map, &"an object with a single key")),
            _ => return self.deserialize_any(visitor),
        };
        self.noted(value)
    }

    /// A field that its type does not have.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let mut track = self.track.borrow_mut();
        if track.unknown.len() < MAX_UNKNOWN && track.names < MAX_NAMES {
            let name = self.path.to_string();
            track.names += name.len();
            track.unknown.push(name);
        }
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

struct Elements<'de, 'p> {
    list: std::slice::Iter<'de, Node<'de>>,
    index: usize,
    of: At<'de, 'p>,
}

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some(node) = self.list.next() else { return Ok(None) };
        let path = Path::Index(self.of.path, self.index);
        self.index += 1;
        seed.deserialize(At { node, path: &path, ..self.of }).map(Some)
    }
}

struct Entries<'de, 'p> {
    map: std::slice::Iter<'de, (Cow<'de, str>, Node<'de>)>,
    entry: Option<&'de (Cow<'de, str>, Node<'de>)>,
    of: At<'de, 'p>,
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.entry = self.map.next();
        let Some((key, _)) = self.entry else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Failure> {
        let Some((key, node)) = self.entry else { return Err(Failure::custom("a value without a key")) };
        seed.deserialize(At { node, path: &Path::Key(self.of.path, key), ..self.of })
    }
}

/// `{"variant": value}`
struct Variant<'de, 'p> {
    entry: &'de (Cow<'de, str>, Node<'de>),
    of: At<'de, 'p>,
}

impl<'de> Variant<'de, '_> {
    fn value<T>(&self, read: impl FnOnce(At<'de, '_>) -> Result<T, Failure>) -> Result<T, Failure> {
        let (key, node) = self.entry;
        read(At { node, path: &Path::Key(self.of.path, key), ..self.of })
    }
}

impl<'de> EnumAccess<'de> for Variant<'de, '_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Failure> {
        seed.deserialize(BorrowedStrDeserializer::new(&self.entry.0)).map(|name| (name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de, '_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        self.value(|at| <()>::deserialize(at))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        self.value(|at| seed.deserialize(at))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.value(|at| at.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        self.value(|at| at.deserialize_any(visitor))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use oci_spec::runtime::Spec;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {
        Plain,
        Wrapped(u8),
        Pair(u8, u8),
        Named { n: i8 },
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Newtype(f64);

    #[derive(Debug, PartialEq, Deserialize)]
    struct Sample {
        kind: Kind,
        #[serde(default)]
        more: Vec<BTreeMap<String, Option<i64>>>,
        #[serde(default)]
        real: Option<Newtype>,
    }

    fn wrong<T: DeserializeOwned + fmt::Debug>(text: &str) -> String {
        read::<T>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_value_is_named_by_its_path() {
        let of = wrong::<Sample>;
        assert_eq!(
            of(r#"{"kind":"Plain","more":[{},{"a":1,"b":[]}]}"#),
            "more[1].b: invalid type: sequence, expected i64"
        );
        assert_eq!(of(r#"{"kind":{"Wrapped":256}}"#), "kind.Wrapped: invalid value: integer `256`, expected u8");
        assert_eq!(
            of(r#"{"kind":{"Pair":[1]}}"#),
            "kind.Pair: invalid length 1, expected tuple variant Kind::Pair with 2 elements"
        );
        assert_eq!(of(r#"{"kind":{"Named":{"n":-129}}}"#), "kind.Named.n: invalid value: integer `-129`, expected i8");
        assert_eq!(of(r#"{"kind":{"Named":{}}}"#), "kind.Named: missing field `n`");
        assert_eq!(of(r#"{"kind":{}}"#), "kind: invalid value: map, expected an object with a single key");
        assert!(of(r#"{"kind":"Other"}"#).starts_with("kind: unknown variant `Other`, expected one of"));
        assert!(of(r#"{"kind":7}"#).starts_with("kind: invalid type: integer `7`"));
        assert_eq!(of(r#"{"more":[]}"#), "missing field `kind`");
        assert_eq!(of(r#"{"kind":"Plain","real":"x"}"#), "real: invalid type: string \"x\", expected f64");
        // What is no JSON has a line and no path.
        assert!(of("{\n  \"kind\": }").ends_with("at line 2 column 11"));
        assert!(of(r#"{"kind":"Plain"} x"#).starts_with("trailing characters"));
        assert!(of(&"[".repeat(1000)).contains("recursion limit"));
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_and_not_chosen_from() {
        assert_eq!(wrong::<Sample>(r#"{"kind":"Plain","kind":{"Wrapped":1}}"#), "duplicate field `kind`");
        assert_eq!(wrong::<Spec>(r#"{"ociVersion":"1.0.2","ociVersion":"1.0.2"}"#), "duplicate field `ociVersion`");
    }

    #[test]
    fn objects_are_merged_by_key_and_a_key_that_comes_twice_stays_twice() {
        let merged = |base: &str, over: &str| {
            let mut tree = Node::parse(base.as_bytes()).unwrap();
            tree.merge(Node::parse(over.as_bytes()).unwrap());
            tree.read::<Value>().map(|(value, _)| value)
        };
        let base = r#"{"a":{"x":1,"y":[1,2]},"b":"\n"}"#;
        let over = r#"{"c":null,"a":{"y":[3],"z":{}},"b":2}"#;
        assert_eq!(merged(base, over).unwrap(), json!({ "a": { "x": 1, "y": [3], "z": {} }, "b": 2, "c": null }));
        let mut tree = Node::parse(br#"{"kind":"Plain"}"#).unwrap();
        tree.merge(Node::parse(br#"{"kind":{"Wrapped":1},"kind":"Plain"}"#).unwrap());
        assert_eq!(tree.read::<Sample>().unwrap_err().to_string(), "duplicate field `kind`");
        assert_eq!(tree.take("kind").and_then(|_| tree.take("kind")), Some(Node::Text("Plain".into())));
        assert_eq!(tree.take("kind"), None);
    }

    #[test]
    fn what_a_type_does_not_know_is_listed_and_nothing_else() {
        let text = r#"{"kind":"Plain","z":{"deep":[1]},"more":[{"free":null}],"a":0}"#;
        let (value, unknown) = read::<Sample>(text.as_bytes()).unwrap();
        assert_eq!(value.more, [BTreeMap::from([("free".to_owned(), None)])]);
        assert_eq!(unknown, ["a", "z"]);
        let config = json!({ "ociVersion": "1.0.2", "linux": { "namespaces": [{ "type": "pid", "x": 1 }], "y": {} } });
        let (_, unknown) = read::<Spec>(config.to_string().as_bytes()).unwrap();
        assert_eq!(unknown, ["linux.namespaces[0].x", "linux.y"]);
    }

    #[test]
    fn names_of_unknown_fields_take_no_more_memory_than_the_text_several_times() {
        // A map whose values have fields: each unknown one would be named with the whole key.
        let key = "k".repeat(1 << 20);
        let fields: Vec<String> = (0..60_000).map(|n| format!("\"{n}\":0")).collect();
        let text = format!(
            r#"{{"ociVersion":"1.0.2","linux":{{"resources":{{"rdma":{{"{key}":{{{}}}}}}}}}}}"#,
            fields.join(",")
        );
        let (_, unknown) = read::<Spec>(text.as_bytes()).unwrap();
        let bytes: usize = unknown.iter().map(String::len).sum();
        assert!(unknown.len() > 1 && bytes < MAX_NAMES + (2 << 20), "{} names of {bytes} bytes", unknown.len());
    }

    #[test]
    fn it_reads_what_serde_json_reads() {
        for text in [
            r#"{"kind":{"Pair":[1,255]},"real":1}"#,
            r#"{"kind":{"Named":{"n":-128}},"real":-0.5}"#,
            r#"{"kind":{"Wrapped":0},"more":[{"a":-9223372036854775808,"b":9223372036854775807}]}"#,
            r#"{"kind":"Plain","real":null}"#,
        ] {
            let other: Sample = serde_json::from_str(text).unwrap();
            assert_eq!(from_str::<Sample>(text).unwrap(), other);
            assert_eq!(from_value::<Sample>(&serde_json::from_str(text).unwrap()).unwrap(), other);
        }
        let spec = serde_json::to_string(&Spec::default()).unwrap();
        assert_eq!(from_str::<Spec>(&spec).unwrap(), Spec::default());
        let linux = serde_json::to_value(oci_spec::runtime::get_default_namespaces()).unwrap();
        assert_eq!(from_value::<Value>(&linux).unwrap(), linux);
        let numbers = json!([u64::MAX, i64::MIN, 1.5, -0.0, true, null, "\u{1f600}"]);
        assert_eq!(from_str::<Value>(&numbers.to_string()).unwrap(), numbers);
    }
}
