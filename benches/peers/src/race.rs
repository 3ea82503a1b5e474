//! A race: its contestants run in turns, and a table tells how they did.

use std::env;
use std::str::FromStr;
use std::time::Duration;

/// Makes a number of calls and says how long they took; on several threads, the mean over the threads.
pub type Lap = Box<dyn FnMut(u64) -> Duration>;

/// A title, and what turns the empty race of that title into the scenario.
pub type Scenario = (&'static str, fn(Race) -> Race);

/// What the environment says about all races.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub rounds: usize,
    pub scale: f64,
}

impl Settings {
    pub fn from_env() -> Result<Self, String> {
        let settings = Self { rounds: read("ROUNDS", 7)?, scale: read("SCALE", 1.0)? };
        let possible = settings.rounds > 0 && settings.scale > 0.0 && settings.scale.is_finite();
        possible.then_some(settings).ok_or_else(|| "ROUNDS and SCALE must be above 0".into())
    }
}

fn read<T: FromStr>(name: &str, default: T) -> Result<T, String> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name} must be a number, and is {text:?}")),
        Err(_) => Ok(default),
    }
}

/// A column that compares each contestant with one of them, by the name of the latter.
#[derive(Clone, Copy, Debug)]
enum Column {
    Ratio(&'static str),
    Added(&'static str),
}

struct Contestant {
    name: &'static str,
    /// Nothing where the contestant cannot do this.
    lap: Option<Lap>,
    allocations: Option<f64>,
}

/// A scenario, and those who take part in it.
pub struct Race {
    title: &'static str,
    goal: &'static str,
    calls: u64,
    columns: Vec<Column>,
    contestants: Vec<Contestant>,
}

impl Race {
    pub fn new(title: &'static str) -> Self {
        Self { title, goal: "", calls: 1_000_000, columns: Vec::new(), contestants: Vec::new() }
    }

    /// What the median should reach, in words.
    pub fn goal(mut self, goal: &'static str) -> Self {
        self.goal = goal;
        self
    }

    /// The number of calls that a contestant makes in a round, on each thread.
    pub fn calls(mut self, calls: u64) -> Self {
        self.calls = calls;
        self
    }

    /// Adds a column: medians as multiples of this contestant's.
    pub fn ratio_to(mut self, name: &'static str) -> Self {
        self.columns.push(Column::Ratio(name));
        self
    }

    /// Adds a column: medians less this contestant's.
    pub fn added_to(mut self, name: &'static str) -> Self {
        self.columns.push(Column::Added(name));
        self
    }

    pub fn contestant(mut self, name: &'static str, lap: Lap) -> Self {
        self.contestants.push(Contestant { name, lap: Some(lap), allocations: None });
        self
    }

    /// A contestant whose allocations for one call are known.
    pub fn counted(mut self, name: &'static str, (lap, allocations): (Lap, f64)) -> Self {
        self.contestants.push(Contestant { name, lap: Some(lap), allocations: Some(allocations) });
        self
    }

    /// A contestant that cannot do this.
    pub fn unable(mut self, name: &'static str) -> Self {
        self.contestants.push(Contestant { name, lap: None, allocations: None });
        self
    }

    /// Runs all rounds and prints the table.
    pub fn run(mut self, settings: &Settings) {
        let calls = ((self.calls as f64 * settings.scale) as u64).max(1);
        let entrants = self.contestants.len();
        let mut figures = vec![Vec::with_capacity(settings.rounds); entrants];
        for round in 0..settings.rounds {
            for turn in 0..entrants {
                let at = (round + turn) % entrants;
                if let Some(lap) = &mut self.contestants[at].lap {
                    figures[at].push(lap(calls).as_nanos() as f64 / calls as f64);
                }
            }
        }
        self.print(&figures.into_iter().map(Figures::of).collect::<Vec<_>>());
    }

    fn print(&self, figures: &[Option<Figures>]) {
        let goal = if self.goal.is_empty() { String::new() } else { format!("   goal: {}", self.goal) };
        println!("\n{}{goal}", self.title);
        let heads = self.columns.iter().map(|column| match column {
            Column::Ratio(name) => format!("x {name}"),
            Column::Added(name) => format!("+ {name}"),
        });
        let heads = heads.map(|head| format!("{head:>23}")).collect::<String>();
        println!("  {:<32}{:>10}{:>10} .. {:<10}{heads}{:>9}", "", "ns/call", "min", "max", "allocs");
        for (contestant, own) in self.contestants.iter().zip(figures) {
            let Some(own) = own else {
                println!("  {:<32}{:>10}", contestant.name, "-");
                continue;
            };
            let compared = self.columns.iter().map(|column| self.compare(*column, own, figures));
            let compared = compared.map(|text| format!("{text:>23}")).collect::<String>();
            let allocations = contestant.allocations.map_or(String::new(), |count| format!("{count:.1}"));
            let Figures { median, min, max } = own;
            let spread = format!("{median:>10.1}{min:>10.1} .. {max:<10.1}");
            println!("  {:<32}{spread}{compared}{allocations:>9}", contestant.name);
        }
    }

    fn compare(&self, column: Column, own: &Figures, figures: &[Option<Figures>]) -> String {
        let (Column::Ratio(name) | Column::Added(name)) = column;
        let at = self.contestants.iter().position(|contestant| contestant.name == name);
        match (column, at.and_then(|at| figures[at].as_ref())) {
            (_, None) => "-".into(),
            (Column::Ratio(_), Some(other)) => format!("{:.2}", own.median / other.median),
            (Column::Added(_), Some(other)) => format!("{:+.1}", own.median - other.median),
        }
    }
}

/// Nanoseconds for one call, over all rounds.
#[derive(Clone, Copy, Debug)]
struct Figures {
    median: f64,
    min: f64,
    max: f64,
}

impl Figures {
    fn of(mut rounds: Vec<f64>) -> Option<Self> {
        rounds.sort_by(f64::total_cmp);
        let (min, max) = (*rounds.first()?, *rounds.last()?);
        let half = rounds.len() / 2;
        let median = if rounds.len() % 2 == 1 { rounds[half] } else { (rounds[half - 1] + rounds[half]) / 2.0 };
        Some(Self { median, min, max })
    }
}
