//! What a run reports: Markdown on the terminal and, with `--write`, in the marked sections of the pages, and plots.

mod environment;
mod table;
mod uri;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use self::environment::provenance;
pub use self::environment::version;
pub use self::table::Table;

pub type Failure = Box<dyn std::error::Error>;

/// The pages with marked sections, from the root of the repository.
const PAGES: [&str; 2] = ["BENCHMARKS.md", "README.md"];

/// The plots that pages of the guide show.
const GUIDE: [&str; 3] = ["positions", "overload", "outage"];

/// Receives the results of all parts.
pub struct Report {
    writes: bool,
}

impl Report {
    pub fn new(writes: bool) -> Self {
        Self { writes }
    }

    /// Prints a text with its provenance, and writes it between `<!-- begin: NAME -->` and `<!-- end: NAME -->`.
    pub fn section(&self, name: &str, how: &str, text: impl Display) -> Result<(), Failure> {
        self.replace(name, &format!("{}\n\n{text}", provenance(how)))
    }

    /// Does the same for the figures of the README, without their provenance.
    pub fn summary(&self, table: Table) -> Result<(), Failure> {
        self.replace("summary", &table.to_string())
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), Failure> {
        println!("\n## {name}\n\n{text}");
        if !self.writes {
            return Ok(());
        }
        for page in PAGES.map(|page| root().join(page)) {
            let before = fs::read_to_string(&page)?;
            if let Some(after) = replaced(&before, name, text) {
                return Ok(fs::write(page, after)?);
            }
        }
        Err(format!("no page has the section {name:?}").into())
    }

    /// Writes a plot to `docs/plots/NAME.svg`, and for the guide also to `NAME.uri`.
    pub fn plot(&self, name: &str, svg: &str) -> Result<(), Failure> {
        if !self.writes {
            return Ok(());
        }
        let folder = root().join("docs/plots");
        fs::create_dir_all(&folder)?;
        if GUIDE.contains(&name) {
            fs::write(folder.join(format!("{name}.uri")), uri::link(name, svg))?;
        }
        Ok(fs::write(folder.join(format!("{name}.svg")), svg)?)
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The page with another text in the section, or `None` if the page has no such section.
fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- begin: {name} -->\n"), format!("<!-- end: {name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}\n{end}{after}", text.trim()))
}
