//! Reads lines of one format.

use std::fmt;

use super::fields::{Fields, Record, set};
use super::json::Json;
use super::text::Parts;
use super::time::Stamp;
use super::{alb, common, envoy, time};

/// The format of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The common format of Apache and nginx
    Common,
    /// The combined format of Apache and nginx, also with a virtual host or X-Forwarded-For
    Combined,
    /// A JSON object in each line: Caddy, Envoy, nginx and others
    Json,
    /// The default text format of Envoy and Istio
    Envoy,
    /// AWS Application Load Balancer
    Alb,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common",
            Self::Combined => "combined",
            Self::Json => "json",
            Self::Envoy => "envoy",
            Self::Alb => "alb",
        })
    }
}

/// Why a line is not readable.
pub(crate) type BadLine = &'static str;

/// The formats in the order in which they are tried. A combined line is a common line too.
const TRIED: [Format; 5] = [Format::Json, Format::Combined, Format::Common, Format::Envoy, Format::Alb];

impl Format {
    /// The format that reads the most of these lines.
    ///
    /// # Errors
    ///
    /// Returns a message for the user if no format reads any line.
    pub(crate) fn detect(lines: &[&[u8]], fields: &Fields) -> Result<Self, String> {
        let mut best = None;
        let mut reason = "the log has no lines";
        for format in TRIED {
            // Fields that this format does not have rule it out.
            let Ok(mut parser) = Parser::new(format, fields) else { continue };
            let mut record = Record::default();
            let mut readable = 0;
            for line in lines {
                match parser.parse(line, &mut record) {
                    Ok(()) => readable += 1,
                    Err(why) if format == Self::Json && line.starts_with(b"{") => reason = why,
                    Err(_) if reason.starts_with("the log") => reason = "no line has one of the known formats",
                    Err(_) => {}
                }
            }
            if readable > best.map_or(0, |(most, _)| most) {
                best = Some((readable, format));
            }
        }
        match best {
            Some((_, format)) => Ok(format),
            None => Err(format!("cannot detect the format: {reason}; write --format with one of {}", Self::all())),
        }
    }

    fn all() -> String {
        TRIED.map(|format| format.to_string()).join(", ")
    }

    /// The names of the fields of a format of plain text; the first is the client.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Common => common::COMMON,
            Self::Combined => common::COMBINED,
            Self::Envoy => envoy::ENVOY,
            Self::Alb => alb::ALB,
            Self::Json => &[],
        }
    }
}

/// Reads the lines of a log.
#[derive(Clone, Debug)]
pub(crate) struct Parser {
    kind: Kind,
    extra: usize,
    /// The last time that was read, and its text. The next line often has the same.
    last: (Vec<u8>, Stamp),
}

#[derive(Clone, Debug)]
enum Kind {
    Json(Box<Json>),
    Text {
        format: Format,
        client: usize,
        /// The places of the extra fields among the named fields.
        extra: Vec<usize>,
    },
}

impl Parser {
    /// Creates a parser.
    ///
    /// # Errors
    ///
    /// Returns a message for the user if the format has no such field.
    pub(crate) fn new(format: Format, fields: &Fields) -> Result<Self, String> {
        let extra = fields.extra.len();
        if format == Format::Json {
            return Ok(Self::of(Kind::Json(Box::new(Json::new(fields))), extra));
        }
        let names = format.names();
        let place = |name: &str| {
            let all = names.join(", ");
            names.iter().position(|known| *known == name).ok_or_else(|| {
                format!("the format {format} has no field {name:?}; it has the time, method, path, status, {all}")
            })
        };
        let fixed =
            [("time", &fields.time), ("method", &fields.method), ("path", &fields.path), ("status", &fields.status)];
        if let Some((name, _)) = fixed.iter().find(|(_, chosen)| chosen.is_some()) {
            return Err(format!("the {name} of the format {format} has a fixed place; remove --field {name}=.."));
        }
        let client = fields.client.as_deref().map_or(Ok(0), place)?;
        let places = fields.extra.iter().map(|(_, name)| place(name)).collect::<Result<_, _>>()?;
        Ok(Self::of(Kind::Text { format, client, extra: places }, extra))
    }

    fn of(kind: Kind, extra: usize) -> Self {
        Self { kind, extra, last: (Vec::new(), Stamp::default()) }
    }

    /// Reads a line into the record.
    pub(crate) fn parse(&mut self, line: &[u8], record: &mut Record) -> Result<(), BadLine> {
        record.clear(self.extra);
        let (format, client, extra) = match &mut self.kind {
            Kind::Json(json) => return json.parse(line, record),
            Kind::Text { format, client, extra } => (*format, *client, extra),
        };
        let Parts { time, request, status, named } = match format {
            Format::Envoy => envoy::split(line)?,
            Format::Alb => alb::split(line)?,
            Format::Common | Format::Combined | Format::Json => common::split(line, format == Format::Combined)?,
        };
        if time != self.last.0 {
            self.last.1 = time::stamp(time).ok_or("the time is not readable")?;
            self.last.0.clear();
            self.last.0.extend_from_slice(time);
        }
        let time = self.last.1;
        (record.time_ms, record.has_fraction) = (time.ms, time.has_fraction);
        record.status = match time::digits(status).and_then(|status| u16::try_from(status).ok()) {
            Some(status) => status,
            None if status == b"-" => 0,
            None => return Err("the status is no number"),
        };
        record.set_request_line(request);
        set(&mut record.client, named[client]);
        for (buffer, at) in record.extra.iter_mut().zip(extra) {
            set(buffer, named[*at]);
        }
        Ok(())
    }
}
