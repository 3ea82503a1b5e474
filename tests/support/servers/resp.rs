//! A blocking client of the servers' protocol (RESP2), as small as the harness needs.
//!
//! The client that the crate uses would do, but would then have to be trusted by the tests of that use.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// What a server answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nil,
    Integer(i64),
    /// A status or a string.
    Text(Vec<u8>),
    Error(String),
    Array(Vec<Reply>),
}

/// As `redis-cli` prints it through a pipe: arrays one element a line, nil as nothing.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => Ok(()),
            Self::Integer(value) => value.fmt(f),
            Self::Text(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Error(text) => f.write_str(text),
            Self::Array(items) => {
                let lines: Vec<String> = items.iter().map(ToString::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects to a loopback port; every read and write gives up after `timeout`.
    pub(crate) fn open(port: u16, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// From now on reads give up after this time.
    pub(crate) fn give_up_after(&self, timeout: Duration) {
        self.0.get_ref().set_read_timeout(Some(timeout)).unwrap();
    }

    /// Whether the other side has neither closed the connection nor sent what nobody asked for.
    pub(crate) fn is_idle(&self) -> bool {
        let stream = self.0.get_ref();
        let answer = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
        let is_restored = stream.set_nonblocking(false).is_ok();
        is_restored && self.0.buffer().is_empty() && answer.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a command and waits for its reply.
    pub(crate) fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<Reply> {
        self.send(command)?;
        self.receive()
    }

    /// Sends a command without waiting.
    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            let argument = argument.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&bytes)
    }

    /// Waits for the next reply, or the next line of `MONITOR`.
    pub(crate) fn receive(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches("\r\n");
        let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(|_| io::Error::from(ErrorKind::InvalidData));
        Ok(match kind {
            "+" => Reply::Text(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Text(bytes)
                }
            },
            "*" => match number()? {
                ..0 => Reply::Nil,
                length => Reply::Array((0..length).map(|_| self.receive()).collect::<io::Result<_>>()?),
            },
            _ => return Err(ErrorKind::InvalidData.into()),
        })
    }
}
