//! The fields of a request, and where a log has them.

use super::text::Rest;

/// What a line has of a request. Its buffers are used again for the next line, so that a line allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Milliseconds since 1970.
    pub(crate) time_ms: u64,
    /// Whether the time has less than seconds.
    pub(crate) has_fraction: bool,
    /// 0 if the line has none.
    pub(crate) status: u16,
    pub(crate) client: Vec<u8>,
    pub(crate) method: Vec<u8>,
    /// With the query.
    pub(crate) path: Vec<u8>,
    /// The fields that the user named, in that order.
    pub(crate) extra: Vec<Vec<u8>>,
}

impl Record {
    /// Forgets the last line.
    pub(crate) fn clear(&mut self, extra: usize) {
        (self.time_ms, self.has_fraction, self.status) = (0, false, 0);
        self.client.clear();
        self.method.clear();
        self.path.clear();
        self.extra.resize(extra, Vec::new());
        self.extra.iter_mut().for_each(Vec::clear);
    }

    /// Reads the method and the path from a request line such as `GET /a?b HTTP/1.1`.
    ///
    /// A line that is no request, as a scanner sends it, has neither.
    pub(super) fn set_request_line(&mut self, line: &[u8]) {
        let mut words = Rest(line);
        if let (Some(method), Some(path)) = (words.word(), words.word()) {
            set(&mut self.method, method);
            set(&mut self.path, path);
        }
    }
}

/// Replaces the bytes of a buffer. A dash is how logs write that a value is absent.
pub(super) fn set(buffer: &mut Vec<u8>, value: &[u8]) {
    buffer.clear();
    if value != b"-" {
        buffer.extend_from_slice(value);
    }
}

/// The places of fields in a log, if the user named them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) time: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) status: Option<String>,
    /// The names of other fields, and their places in the log.
    pub(crate) extra: Vec<(String, String)>,
}

impl Fields {
    /// Adds `NAME=PLACE`, or `NAME` for a place of the same name.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), String> {
        let (name, place) = text.split_once('=').unwrap_or((text, text));
        let (name, place) = (name.trim(), place.trim());
        if name.is_empty() || place.is_empty() {
            return Err(format!("{text:?} is no field; write NAME=PLACE, such as client=request.client_ip"));
        }
        let known = match name {
            "time" => &mut self.time,
            "client" => &mut self.client,
            "method" => &mut self.method,
            "path" => &mut self.path,
            "status" => &mut self.status,
            "global" => return Err("a field cannot have the name global; choose another one".into()),
            _ if self.extra.iter().any(|(other, _)| other == name) => {
                return Err(format!("the field {name} is given twice; give each field one place"));
            }
            _ if self.extra.len() == MAX_EXTRA => {
                return Err(format!("there are more than {MAX_EXTRA} fields; leave out some"));
            }
            _ => {
                self.extra.push((name.into(), place.into()));
                return Ok(());
            }
        };
        match known.replace(place.into()) {
            None => Ok(()),
            Some(_) => Err(format!("the field {name} is given twice; give each field one place")),
        }
    }

    /// The place of an extra field in [`Record::extra`].
    pub(crate) fn slot(&self, name: &str) -> Option<usize> {
        self.extra.iter().position(|(known, _)| known == name)
    }
}

/// The most fields that a user can name.
pub(super) const MAX_EXTRA: usize = 8;
