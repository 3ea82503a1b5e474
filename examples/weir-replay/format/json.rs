//! Lines that are JSON objects: Caddy, Envoy, nginx with a JSON format, and others.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{Fields, Record, set};
use super::time::{digits, since_1970, stamp};

/// The places of each field in well-known logs, the best first. A dot is between the names of nested objects.
const TIME: &[&str] =
    &["time", "ts", "timestamp", "@timestamp", "start_time", "time_iso8601", "time_local", "msec", "date"];
const CLIENT: &[&str] = &[
    "request.client_ip",
    "request.remote_ip",
    "client",
    "client_ip",
    "remote_addr",
    "remote_ip",
    "downstream_remote_address",
    "downstream_direct_remote_address",
    "ip",
];
const METHOD: &[&str] = &["method", "request.method", "request_method"];
const PATH: &[&str] = &["path", "request.uri", "request_uri", "uri", "url"];
const STATUS: &[&str] = &["status", "response_code", "status_code"];
/// The whole request line, if there is no method and no path.
const REQUEST: &[&str] = &["request", "request_line"];

/// Reads lines of JSON.
#[derive(Clone, Debug)]
pub(super) struct Json {
    /// The names that are looked for; the first node is the line itself.
    nodes: Vec<Node>,
    /// What the line has at each place.
    values: Vec<Value>,
    /// The places of each field, the best first: time, client, method, path, status, request line, and extra fields.
    fields: Vec<Vec<usize>>,
}

/// A value on the way to a place, or at a place.
#[derive(Clone, Debug, Default)]
struct Node {
    place: Option<usize>,
    names: Vec<(String, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Value {
    is_present: bool,
    text: Vec<u8>,
    number: Option<f64>,
}

impl Json {
    pub(super) fn new(fields: &Fields) -> Self {
        let mut json = Self { nodes: vec![Node::default()], values: Vec::new(), fields: Vec::new() };
        let standard = [
            (&fields.time, TIME),
            (&fields.client, CLIENT),
            (&fields.method, METHOD),
            (&fields.path, PATH),
            (&fields.status, STATUS),
            (&None, REQUEST),
        ];
        for (chosen, usual) in standard {
            let places = match chosen {
                Some(place) => vec![json.place(place)],
                None => usual.iter().map(|place| json.place(place)).collect(),
            };
            json.fields.push(places);
        }
        for (_, place) in &fields.extra {
            let place = json.place(place);
            json.fields.push(vec![place]);
        }
        json
    }

    /// The index of a place's value. A dot in a place is one between nested objects, or a part of a name.
    fn place(&mut self, place: &str) -> usize {
        let flat = self.node([place]);
        let index = *self.nodes[flat].place.get_or_insert(self.values.len());
        if index == self.values.len() {
            self.values.push(Value::default());
        }
        let nested = self.node(place.split('.'));
        self.nodes[nested].place = Some(index);
        index
    }

    /// The node below these names.
    fn node<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> usize {
        let mut at = 0;
        for name in names {
            at = self.nodes[at].names.iter().find(|(known, _)| known == name).map(|(_, node)| *node).unwrap_or_else(
                || {
                    let node = self.nodes.len();
                    self.nodes[at].names.push((name.to_owned(), node));
                    self.nodes.push(Node::default());
                    node
                },
            );
        }
        at
    }

    pub(super) fn parse(&mut self, line: &[u8], record: &mut Record) -> Result<(), &'static str> {
        self.values.iter_mut().for_each(|value| value.is_present = false);
        let mut json = serde_json::Deserializer::from_slice(line);
        let line = Below { nodes: &self.nodes, node: 0, values: &mut self.values };
        json.deserialize_map(line).and_then(|()| json.end()).map_err(|_| "no JSON object")?;

        let time = self.first(0).ok_or("no time; name its field with --field time=..")?;
        let time = time.number.and_then(since_1970).or_else(|| stamp(&time.text)).ok_or("the time is not readable")?;
        (record.time_ms, record.has_fraction) = (time.ms, time.has_fraction);
        for (field, buffer) in [(1, &mut record.client), (2, &mut record.method), (3, &mut record.path)] {
            if let Some(value) = self.first(field) {
                set(buffer, &value.text);
            }
        }
        let status = self.first(4).and_then(|status| digits(&status.text));
        record.status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(0);
        if let (true, Some(request)) = (record.path.is_empty(), self.first(5)) {
            record.set_request_line(&request.text);
        }
        for (slot, buffer) in record.extra.iter_mut().enumerate() {
            if let Some(value) = self.first(6 + slot) {
                set(buffer, &value.text);
            }
        }
        Ok(())
    }

    /// The first value that the line has for a field.
    fn first(&self, field: usize) -> Option<&Value> {
        self.fields[field].iter().map(|place| &self.values[*place]).find(|value| value.is_present)
    }
}

/// The value of a node, which may be an object with names below it.
struct Below<'a> {
    nodes: &'a [Node],
    node: usize,
    values: &'a mut [Value],
}

/// Finds the node below another one by its name.
struct Name<'a>(&'a [Node], usize);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0[self.1].names.iter().find(|(known, _)| known == name).map(|(_, node)| *node))
    }
}

impl Below<'_> {
    /// Keeps the value, if the node is a place. The first of two values with one name counts.
    fn set(self, text: &[u8], number: Option<f64>) {
        let Some(value) = self.nodes[self.node].place.map(|place| &mut self.values[place]) else { return };
        if !value.is_present {
            (value.is_present, value.number) = (true, number);
            value.text.clear();
            value.text.extend_from_slice(text);
        }
    }

    fn set_number(self, number: f64, text: &dyn fmt::Display) {
        use std::io::Write as _;

        let mut buffer = [0; 32];
        let mut unused = &mut buffer[..];
        let _ = write!(unused, "{text}");
        let length = 32 - unused.len();
        self.set(&buffer[..length], Some(number));
    }
}

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.set(text.as_bytes(), None);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.set_number(number as f64, &number);
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.set_number(number as f64, &number);
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.set_number(number, &number);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    /// The first element of a list counts, as in Caddy's header fields.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if list.next_element_seed(self)?.is_some() {
            while list.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(node) = map.next_key_seed(Name(self.nodes, self.node))? {
            match node {
                Some(node) => {
                    map.next_value_seed(Below { nodes: self.nodes, node, values: &mut *self.values })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
