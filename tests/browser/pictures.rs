//! The report of `weir-replay` and the plots of the documentation: no text lies on another or leaves its picture, and
//! axes and lines have names.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::driver::Browser;
use crate::programs::program;

impl Browser {
    fn check_picture(&self, what: &str) {
        for check in ["overlaps", "outside"] {
            assert_eq!(self.check(check), json!([]), "{what}");
        }
    }
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_report_of_a_replay_is_legible_on_wide_and_narrow_screens() {
    let folder = std::env::temp_dir().join(format!("weir-pictures-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (log, page) = (folder.join("access.log"), folder.join("report.html"));
    let replay = |arguments: &[&str]| {
        let mut command = Command::new(program("weir-replay"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    std::fs::write(&log, replay(&["--generate", "20000"])).unwrap();
    let (log, html) = (log.to_str().unwrap(), page.to_str().unwrap());
    replay(&["--limit", "100/min", "--limit", "20/s per global suppressed 1.5", "--target", "1%", "--html", html, log]);
    let browser = Browser::open(&format!("file://{html}"));
    for (width, height) in [(360, 740), (768, 1024), (1280, 900)] {
        browser.resize(width, height);
        browser.check_picture(&format!("the report at {width} x {height}"));
        let plots = browser.run(
            "return [...document.querySelectorAll('svg')].filter((svg) => svg.checkVisibility()).map((svg) => ({
                name: svg.getAttribute('aria-label'),
                labels: [...svg.querySelectorAll('text.label')].map((text) => text.textContent),
                legend: [...(svg.closest('figure')?.querySelectorAll('figcaption span') ?? [])].map((entry) => entry.textContent),
            }))",
            &json!([]),
        );
        let plots = plots.as_array().unwrap();
        assert!(plots.len() >= 4, "{plots:#?}");
        for plot in plots {
            assert!(!plot["name"].as_str().unwrap_or_default().is_empty(), "{plot}");
            assert!(plot["labels"].as_array().unwrap().len() >= 2, "an axis has no name: {plot}");
            assert!(!plot["legend"].as_array().unwrap().is_empty(), "{plot}");
        }
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
#[ignore = "needs Chromium; tests/run.sh runs it"]
fn the_plots_of_the_documentation_are_legible() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plots");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "svg")).collect();
    assert!(files.len() >= 5, "{files:?}");
    let browser = Browser::open("about:blank");
    for file in files {
        let file = file.to_str().unwrap();
        browser.go_to(&format!("file://{file}"));
        browser.check_picture(file);
        let found = browser.run(
            "const texts = [...document.querySelectorAll('text')];
             const rotated = texts.filter((text) => text.getAttribute('transform')?.includes('rotate')).length;
             return { title: document.querySelector('title').textContent, rotated,
                 words: texts.filter((text) => /[a-z]{4}/.test(text.textContent)).map((text) => text.textContent) }",
            &json!([]),
        );
        // A plot may have several panels, each with an axis.
        assert!(found["rotated"].as_u64().unwrap() >= 1, "the vertical axis of {file} has no name: {found}");
        // The title, the axis, and the entries of the legend.
        assert!(found["words"].as_array().unwrap().len() >= 5, "{file}: {found}");
    }
}
