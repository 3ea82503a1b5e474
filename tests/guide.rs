//! The pages of the guide, for readers of the repository and of the API documentation alike.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The pages and the plots that they show, as in `![text][plot-NAME]`.
fn shown() -> Vec<(PathBuf, String)> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let plots = pages.flat_map(|page| {
        let text = read(&page);
        let names = text.split("][plot-").skip(1).map(|rest| rest.split(']').next().unwrap().to_owned());
        names.map(|name| (page.clone(), name)).collect::<Vec<_>>()
    });
    plots.collect()
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_plot_is_the_same_image_in_the_repository_and_in_the_documentation() {
    let shown = shown();
    assert!(!shown.is_empty());
    for (page, name) in shown {
        let link = read(format!("docs/plots/{name}.uri"));
        let data = link.strip_prefix(&format!("[plot-{name}]: data:image/svg+xml,")).unwrap().trim_end();
        assert_eq!(percent_decoded(data), read(format!("docs/plots/{name}.svg")), "{name}.uri is not {name}.svg");
        let definition = format!("\n[plot-{name}]: plots/{name}.svg\n");
        assert!(read(&page).contains(&definition), "{} does not define plot-{name}", page.display());
    }
}

#[test]
fn the_documentation_of_a_page_contains_its_plots() {
    let guide = read("src/guide.rs");
    for (page, name) in shown() {
        let file = format!("\"../docs/{}\"", page.file_name().unwrap().to_str().unwrap());
        let entry = guide.split("page!(").find(|entry| entry.contains(&file)).unwrap();
        let plots = entry.split_once("plots: [").map_or("", |(_, plots)| plots.split(']').next().unwrap());
        assert!(plots.contains(&format!("\"{name}\"")), "the page of {file} in src/guide.rs lacks the plot {name}");
    }
}
