//! A race: its contestants run in turns, round after round.

use std::env;
use std::str::FromStr;
use std::time::Duration;

use crate::figures::Figures;

/// Makes a number of calls and returns how long they took; on several threads, the mean over the threads.
pub type Lap = Box<dyn FnMut(u64) -> Duration>;

/// A title, and a function that adds the contestants to the empty race of that title.
pub type Scenario = (&'static str, fn(Race) -> Race);

/// What the environment sets for all parts.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    rounds: Option<usize>,
    pub scale: f64,
}

impl Settings {
    pub fn from_env() -> Result<Self, String> {
        let settings = Self { rounds: read("ROUNDS")?, scale: read("SCALE")?.unwrap_or(1.0) };
        let possible = settings.rounds != Some(0) && settings.scale > 0.0 && settings.scale.is_finite();
        possible.then_some(settings).ok_or_else(|| "ROUNDS and SCALE must be above 0".into())
    }

    /// The number of rounds, for a part with this default.
    pub fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default)
    }

    /// A number of calls or keys, multiplied.
    pub fn scaled(&self, number: u64) -> u64 {
        ((number as f64 * self.scale) as u64).max(1)
    }
}

fn read<T: FromStr>(name: &str) -> Result<Option<T>, String> {
    match env::var(name) {
        Ok(text) => text.parse().map(Some).map_err(|_| format!("{name} must be a number, and is {text:?}")),
        Err(_) => Ok(None),
    }
}

/// A library, and how it is used: by which kind of key, or with what.
pub type Name = (&'static str, &'static str);

struct Contestant {
    name: Name,
    lap: Lap,
    allocations: Option<f64>,
}

/// A scenario, and those who take part in it.
pub struct Race {
    title: &'static str,
    calls: u64,
    contestants: Vec<Contestant>,
}

impl Race {
    pub fn new(title: &'static str) -> Self {
        Self { title, calls: 1_000_000, contestants: Vec::new() }
    }

    /// The number of calls that a contestant makes in a round, on each thread.
    pub fn calls(mut self, calls: u64) -> Self {
        self.calls = calls;
        self
    }

    pub fn contestant(mut self, name: Name, lap: Lap) -> Self {
        self.contestants.push(Contestant { name, lap, allocations: None });
        self
    }

    /// A contestant whose allocations for one call are known.
    pub fn counted(mut self, name: Name, (lap, allocations): (Lap, f64)) -> Self {
        self.contestants.push(Contestant { name, lap, allocations: Some(allocations) });
        self
    }

    /// Runs all rounds. The order rotates, so what disturbs the machine disturbs all contestants.
    pub fn run(mut self, settings: &Settings) -> Standing {
        let calls = settings.scaled(self.calls);
        let entrants = self.contestants.len();
        let mut rounds = vec![Vec::new(); entrants];
        for round in 0..settings.rounds(ROUNDS) {
            for turn in 0..entrants {
                let at = (round + turn) % entrants;
                rounds[at].push((self.contestants[at].lap)(calls).as_nanos() as f64 / calls as f64);
            }
        }
        let entrants = self.contestants.into_iter().zip(rounds);
        let entrants =
            entrants.map(|(Contestant { name, allocations, .. }, rounds)| Entrant { name, rounds, allocations });
        Standing { title: self.title, entrants: entrants.collect() }
    }
}

/// The rounds of a race, unless the environment sets others.
pub const ROUNDS: usize = 7;

/// What a contestant reached: nanoseconds for one call in each round, and the allocations of a call if counted.
#[derive(Clone)]
pub struct Entrant {
    pub name: Name,
    pub rounds: Vec<f64>,
    pub allocations: Option<f64>,
}

impl Entrant {
    pub fn figures(&self) -> Option<Figures> {
        Figures::of(self.rounds.iter().copied())
    }

    /// The figures, and the allocations of a call if there are any.
    pub fn cell(&self) -> String {
        let figures = self.figures().map_or("-".into(), |figures| figures.cell());
        match self.allocations {
            Some(allocations) if allocations >= 0.05 => format!("{figures}, {allocations:.1} allocations"),
            _ => figures,
        }
    }
}

/// The results of a race.
pub struct Standing {
    pub title: &'static str,
    pub entrants: Vec<Entrant>,
}

impl Standing {
    pub fn get(&self, library: &str, variant: &str) -> Option<&Entrant> {
        self.entrants.iter().find(|entrant| entrant.name == (library, variant))
    }

    /// The variants in the order in which they stand.
    pub fn variants(&self) -> Vec<&'static str> {
        let mut variants = Vec::new();
        for entrant in &self.entrants {
            if !variants.contains(&entrant.name.1) {
                variants.push(entrant.name.1);
            }
        }
        variants
    }
}
