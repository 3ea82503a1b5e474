//! Keys as JSON: one form for each key, the same in answers and in requests, whatever reads the key of a limit.
//!
//! The table of forms is in `docs/admin.md`.

use serde_json::{Map, Value, json};

use crate::key::{Hex, Key, KeyName, KeyPart, KeyParts, KeyWriter};

/// The largest integer that every reader of JSON keeps exactly.
const EXACT: u64 = (1 << 53) - 1;

/// The JSON of a key.
pub(super) fn write(name: &KeyName) -> Value {
    match KeyParts::read(name.as_bytes()) {
        None => json!({ "raw": hex(name.as_bytes()) }),
        Some(KeyParts::One(values)) => values_json(&values),
        Some(KeyParts::Joined(parts)) => parts.iter().map(|values| values_json(values)).collect(),
    }
}

fn values_json(values: &[KeyPart]) -> Value {
    match values {
        [] => Value::Null,
        [value] => part_json(value),
        values => json!({ "values": values.iter().map(part_json).collect::<Vec<_>>() }),
    }
}

fn part_json(part: &KeyPart) -> Value {
    match part {
        KeyPart::Text(text) => json!(text),
        KeyPart::Bytes(bytes) => json!({ "bytes": hex(bytes) }),
        KeyPart::Ip(ip) => json!({ "ip": ip.to_string() }),
        KeyPart::Unsigned(number) if *number <= EXACT => json!(number),
        KeyPart::Unsigned(number) => json!({ "unsigned": number.to_string() }),
        KeyPart::Signed(number) => match i64::try_from(*number) {
            Ok(small) if small.unsigned_abs() <= EXACT => json!({ "signed": small }),
            _ => json!({ "signed": number.to_string() }),
        },
        KeyPart::Wide(number) => json!({ "u128": number.to_string() }),
        KeyPart::Bool(bool) => json!(bool),
        KeyPart::Char(char) => json!({ "char": char }),
        KeyPart::Unit => json!({ "unit": true }),
        KeyPart::None => json!({ "none": true }),
        KeyPart::Some(values) => json!({ "some": values_json(values) }),
        KeyPart::Tuple(parts) => json!({ "tuple": parts.iter().map(|values| values_json(values)).collect::<Vec<_>>() }),
        KeyPart::Missing => json!({ "missing": true }),
    }
}

/// Reads the JSON of a key.
///
/// # Errors
///
/// Returns what to write instead.
pub(super) fn read(json: &Value) -> Result<KeyName, &'static str> {
    let parts = match json {
        Value::Array(parts) if parts.is_empty() => {
            return Err("a list of joined keys has at least one; write null for global");
        }
        Value::Array(parts) => KeyParts::Joined(parts.iter().map(values).collect::<Result<_, _>>()?),
        Value::Object(fields) if fields.contains_key("raw") => return raw(fields),
        json => KeyParts::One(values(json)?),
    };
    let mut bytes = KeyWriter::new();
    parts.write_to(&mut bytes);
    Ok(KeyName::new(bytes.as_bytes()))
}

fn raw(fields: &Map<String, Value>) -> Result<KeyName, &'static str> {
    match only(fields)? {
        (_, Value::String(text)) => Ok(KeyName::new(&unhex(text).ok_or(HEX)?)),
        _ => Err(HEX),
    }
}

const HEX: &str = "write bytes as pairs of hexadecimal digits, as in {\"bytes\": \"9f86\"}";
const INTEGER: &str = "write an integer from 0 to 18446744073709551615, {\"signed\": -5}, or {\"u128\": \"5\"}";

/// The values of a part: none, one, or several.
fn values(json: &Value) -> Result<Vec<KeyPart>, &'static str> {
    match json {
        Value::Null => Ok(Vec::new()),
        Value::Object(fields) if fields.contains_key("values") => match only(fields)? {
            (_, Value::Array(values)) => values.iter().map(part).collect(),
            _ => Err("write a list, as in {\"values\": [\"acme\", 42]}"),
        },
        json => part(json).map(|part| vec![part]),
    }
}

fn part(json: &Value) -> Result<KeyPart, &'static str> {
    match json {
        Value::Null => Err("null stands for a whole key or for one of joined keys; write {\"none\": true} for None"),
        Value::Bool(bool) => Ok(KeyPart::Bool(*bool)),
        Value::String(text) => Ok(KeyPart::Text(text.clone())),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Ok(KeyPart::Unsigned(number)),
            (None, Some(number)) => Ok(KeyPart::Signed(number.into())),
            (None, None) => Err(INTEGER),
        },
        Value::Array(_) => Err("only a whole key is a list; write {\"tuple\": [..]} or {\"values\": [..]} within it"),
        Value::Object(fields) => tagged(only(fields)?),
    }
}

/// The one field of an object.
fn only(fields: &Map<String, Value>) -> Result<(&str, &Value), &'static str> {
    let mut all = fields.iter();
    match (all.next(), all.next()) {
        (Some((name, value)), None) => Ok((name, value)),
        _ => Err("an object in a key has exactly one field, as in {\"ip\": \"203.0.113.7\"}"),
    }
}

fn tagged((name, value): (&str, &Value)) -> Result<KeyPart, &'static str> {
    let marker = |part: KeyPart| if *value == Value::Bool(true) { Ok(part) } else { Err("write true after it") };
    match (name, value) {
        ("ip", Value::String(text)) => text.parse().map(KeyPart::Ip).map_err(|_| "this is no IP address"),
        ("bytes", Value::String(text)) => unhex(text).map(KeyPart::Bytes).ok_or(HEX),
        ("unsigned", Value::String(text)) => text.parse().map(KeyPart::Unsigned).map_err(|_| INTEGER),
        ("signed", Value::String(text)) => text.parse().map(KeyPart::Signed).map_err(|_| INTEGER),
        ("signed", Value::Number(number)) => {
            let signed = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            signed.map(KeyPart::Signed).ok_or(INTEGER)
        }
        ("u128", Value::String(text)) => text.parse().map(KeyPart::Wide).map_err(|_| INTEGER),
        ("char", Value::String(text)) => text.parse().map(KeyPart::Char).map_err(|_| "write one character"),
        ("some", value) => values(value).map(KeyPart::Some),
        ("tuple", Value::Array(parts)) if parts.len() <= usize::from(u8::MAX) => {
            parts.iter().map(values).collect::<Result<_, _>>().map(KeyPart::Tuple)
        }
        ("none", _) => marker(KeyPart::None),
        ("unit", _) => marker(KeyPart::Unit),
        ("missing", _) => marker(KeyPart::Missing),
        _ => {
            Err("write a text, an integer, true, false, null, a list, or an object such as {\"ip\": \"203.0.113.7\"}, \
                  {\"bytes\": \"9f86\"}, {\"signed\": -5} or {\"tuple\": [\"acme\", 42]}")
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    Hex(bytes).to_string()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::tests::parts;

    fn name<K: Key + ?Sized>(key: &K) -> KeyName {
        let mut bytes = KeyWriter::new();
        key.write_to(&mut bytes);
        KeyName::new(bytes.as_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Also through the text, as an operator copies it.
        #[test]
        fn every_key_is_read_back_from_its_json(parts in parts()) {
            let (name, json) = (name(&parts), write(&name(&parts)));
            let text = json.to_string();
            prop_assert_eq!(read(&serde_json::from_str(&text).unwrap()), Ok(name), "{}", text);
        }

        /// Bytes that no key has.
        #[test]
        fn any_bytes_are_read_back_from_their_json(bytes in prop::collection::vec(0..20_u8, 0..40)) {
            let name = KeyName::new(&bytes);
            prop_assert_eq!(read(&write(&name)), Ok(name));
        }

        /// Each key that is read has one form, which is read as the same key.
        #[test]
        fn no_json_panics(json in any_json()) {
            if let Ok(name) = read(&json) {
                prop_assert_eq!(read(&write(&name)), Ok(name), "{}", json);
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = "[0-9a-f]{0,6}|203\\.0\\.113\\.7|::1|-?[0-9]{1,40}|\\PC{0,5}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        let field = "ip|bytes|unsigned|signed|u128|char|some|tuple|values|none|unit|missing|raw|other";
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                (field, inner.clone()).prop_map(|(field, value)| json!({ field: value })),
                prop::collection::btree_map(field, inner, 0..3)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn each_kind_of_key_has_the_form_of_the_table() {
        let ip: std::net::IpAddr = "2001:db8::".parse().unwrap();
        for (name, json) in [
            (name("acme"), json!("acme")),
            (name(&42_u8), json!(42)),
            (name(&u64::MAX), json!({"unsigned": "18446744073709551615"})),
            (name(&42_i64), json!({"signed": 42})),
            (name(&i128::MIN), json!({"signed": "-170141183460469231731687303715884105728"})),
            (name(&42_u128), json!({"u128": "42"})),
            (name(&true), json!(true)),
            (name(&'x'), json!({"char": "x"})),
            (name(&ip), json!({"ip": "2001:db8::"})),
            (name(&[0x9f_u8, 0x86]), json!({"bytes": "9f86"})),
            (name(&("acme", 42_u8)), json!({"tuple": ["acme", 42]})),
            (name(&KeyParts::One(vec![])), json!(null)),
            (name(&None::<u8>), json!({"none": true})),
            (name(&Some("acme")), json!({"some": "acme"})),
            (name(&()), json!({"unit": true})),
            (KeyName::new(&[0xff]), json!({"raw": "ff"})),
        ] {
            assert_eq!((write(&name), read(&json)), (json.clone(), Ok(name)), "{json}");
        }
        let joined = KeyParts::Joined(vec![vec![KeyPart::Text("acme".into())], vec![]]);
        assert_eq!(write(&name(&joined)), json!(["acme", null]));
        // Forms that are only read.
        assert_eq!(read(&json!(-5)), Ok(name(&-5)));
        assert_eq!(read(&json!(u64::MAX)), Ok(name(&u64::MAX)));
        assert_eq!(read(&json!({"ip": "2001:DB8:0::"})), Ok(name(&ip)));
        assert_eq!(read(&json!({"bytes": "9F86"})), Ok(name(&[0x9f_u8, 0x86])));
    }

    #[test]
    fn a_malformed_key_is_an_error_that_states_what_to_write() {
        for json in [
            json!([]),
            json!([[]]),
            json!(["acme", ["GET"]]),
            json!({}),
            json!({"ip": "203.0.113"}),
            json!({"ip": "203.0.113.7", "bytes": "9f"}),
            json!({"ip": 7}),
            json!({"bytes": "9f8"}),
            json!({"bytes": "+f"}),
            json!({"raw": "xx"}),
            json!({"raw": "ff", "ip": "::1"}),
            json!(1.5),
            json!(1e300),
            json!({"signed": 1.5}),
            json!({"unsigned": "-1"}),
            json!({"unsigned": 1}),
            json!({"char": "ab"}),
            json!({"none": false}),
            json!({"values": [null]}),
            json!({"values": "acme"}),
            json!({"tuple": "acme"}),
            json!({"name": "acme"}),
        ] {
            let error = read(&json).unwrap_err();
            assert!(
                ["write", "exactly one", "no IP", "only a whole"].iter().any(|hint| error.contains(hint)),
                "{error}"
            );
        }
    }
}
