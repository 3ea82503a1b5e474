//! A network that misbehaves: a TCP proxy which delays, holds back and cuts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::server::lock;
use super::{Server, port};

/// A proxy in front of a server, on threads of its own. It forwards at once until it is told otherwise, and what
/// it is told holds for connections that are open as well as for new ones. Dropping it cuts them all.
///
/// Nothing that it accepted is lost while a connection lives: what was held back arrives late, as it does after a
/// network was parted for a while. To lose it, [`cut`](Self::cut) before [`heal`](Self::heal).
#[derive(Debug)]
pub(crate) struct SlowProxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    ToServer,
    ToClient,
}

/// What a connection must know of itself.
#[derive(Clone, Copy, Debug)]
struct Connection {
    number: usize,
    /// See [`State::cuts`].
    cuts: u64,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By [`Direction`].
    delay: [Duration; 2],
    is_held: [bool; 2],
    is_refusing: bool,
    is_over: bool,
    /// How often connections were cut; one of an earlier count is dead.
    cuts: u64,
    accepted: usize,
    /// Connections that were accepted before this many were carry nothing any more.
    stranded: usize,
    /// Pieces that clients have sent.
    pieces: usize,
    streams: Vec<TcpStream>,
}

impl SlowProxy {
    /// Opens a proxy on a port of its own.
    pub(crate) fn in_front_of(server: &Server) -> Self {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, port::free())).ok();
        let listener = (0..20).find_map(|_| bind()).expect("one of twenty ports is free");
        let port = listener.local_addr().unwrap().port();
        let shared =
            Arc::new(Shared { target: server.port().into(), state: Mutex::default(), changed: Condvar::new() });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { port, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Delays what clients send from now on, and what the server answers, each by a time of its own. Throughput
    /// stays: bytes that came together leave together.
    pub(crate) fn delay(&self, to_server: Duration, to_client: Duration) {
        self.change(|state| state.delay = [to_server, to_client]);
    }

    /// Accepts connections and bytes, and forwards nothing in either direction.
    pub(crate) fn black_hole(&self) {
        self.change(|state| state.is_held = [true, true]);
    }

    /// Lets requests through and holds the replies back: the server acts and nobody learns of it.
    pub(crate) fn hold_replies(&self) {
        self.change(|state| state.is_held = [false, true]);
    }

    /// Closes every open connection; what was held back or delayed on it is lost. New ones are served.
    pub(crate) fn cut(&self) {
        self.change(State::cut);
    }

    /// Strands every open connection: it stays open and carries nothing ever again, as where a firewall has
    /// forgotten it. New ones are served.
    pub(crate) fn strand(&self) {
        self.change(|state| state.stranded = state.accepted);
    }

    /// Leads new connections to another server, as a name that moves does; open ones stay where they are.
    pub(crate) fn lead_to(&self, server: &Server) {
        self.shared.target.store(server.port(), Ordering::Relaxed);
    }

    /// Closes every new connection as soon as it is accepted; open ones go on.
    pub(crate) fn refuse(&self) {
        self.change(|state| state.is_refusing = true);
    }

    /// Forwards at once again, what was held back first.
    pub(crate) fn heal(&self) {
        self.change(|state| {
            state.delay = Default::default();
            state.is_held = Default::default();
            state.is_refusing = false;
        });
    }

    /// How many connections were accepted, refused ones not counted.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.state().accepted
    }

    /// How many pieces clients have sent; a command that is sent by itself is one.
    pub(crate) fn pieces(&self) -> usize {
        self.shared.state().pieces
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state());
        self.shared.changed.notify_all();
    }
}

impl Drop for SlowProxy {
    fn drop(&mut self) {
        self.change(|state| {
            state.is_over = true;
            state.cut();
        });
        // Wakes the acceptor, which waits in accept().
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn cut(&mut self) {
        self.cuts += 1;
        for stream in self.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits until bytes that came at `arrived` may go on; no if their connection was cut.
    fn pass(&self, direction: Direction, arrived: Instant, of: Connection) -> bool {
        let mut state = self.state();
        if matches!(direction, Direction::ToServer) {
            state.pieces += 1;
        }
        loop {
            if state.cuts != of.cuts {
                return false;
            }
            // Looked up anew each time: healing lets go of what is under way.
            let left = (arrived + state.delay[direction as usize]).saturating_duration_since(Instant::now());
            let is_held = state.is_held[direction as usize] || of.number < state.stranded;
            state = match (is_held, left) {
                (true, _) => self.changed.wait(state).unwrap(),
                (false, Duration::ZERO) => return true,
                (false, left) => self.changed.wait_timeout(state, left).unwrap().0,
            };
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mut state = shared.state();
        if state.is_over {
            return;
        }
        let Some(client) = client.ok().filter(|_| !state.is_refusing) else { continue };
        // At loopback this fails or succeeds at once, also when the server is paused.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target.load(Ordering::Relaxed))) else {
            continue;
        };
        let of = Connection { number: state.accepted, cuts: state.cuts };
        state.accepted += 1;
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            state.streams.push(stream.try_clone().unwrap());
        }
        forward(shared, Direction::ToServer, &client, &server, of);
        forward(shared, Direction::ToClient, &server, &client, of);
    }
}

/// Starts a reader, which notes when bytes came, and a writer, which lets them go when they may.
fn forward(shared: &Arc<Shared>, direction: Direction, from: &TcpStream, to: &TcpStream, of: Connection) {
    let (sender, receiver) = mpsc::channel();
    let (from, to, shared) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(shared));
    thread::spawn(move || read(from, &sender));
    thread::spawn(move || write(&shared, direction, to, &receiver, of));
}

fn read(mut from: TcpStream, sender: &Sender<(Instant, Vec<u8>)>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // The end of the stream is forwarded as well, as an empty piece.
        let length = from.read(&mut buffer).unwrap_or(0);
        if sender.send((Instant::now(), buffer[..length].to_vec())).is_err() || length == 0 {
            return;
        }
    }
}

fn write(
    shared: &Shared,
    direction: Direction,
    mut to: TcpStream,
    receiver: &Receiver<(Instant, Vec<u8>)>,
    of: Connection,
) {
    for (arrived, bytes) in receiver {
        if !shared.pass(direction, arrived, of) {
            return;
        }
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
    }
}
