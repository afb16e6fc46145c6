//! What `docs/operations.md` names exists.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/operations.md")).expect("the page is there")
}

/// All Rust sources below a folder, as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source file"));
        }
    }
    text
}

/// Words of the page that begin so, without what follows the name.
fn words(page: &str, beginning: &str) -> Vec<String> {
    let is_part = |char: char| char.is_ascii_lowercase() || char == '_';
    page.match_indices(beginning)
        .map(|(at, _)| page[at..].chars().take_while(|char| is_part(*char)).collect())
        .collect()
}

#[test]
fn every_metric_of_the_page_is_registered() {
    let sources = sources(&root().join("registry/src"));
    let mut count = 0;
    for name in words(&page(), "registry_") {
        // Counters and units get their endings from the exposition format.
        let bare = name.trim_start_matches("registry_");
        let bare = ["_total", "_seconds", "_bytes"]
            .iter()
            .fold(bare, |name, ending| name.strip_suffix(ending).unwrap_or(name));
        assert!(
            sources.contains(&format!("(\"{bare}\",")),
            "{name} is on the page, and nothing registers {bare}"
        );
        count += 1;
    }
    assert!(count > 10, "the test looks at the right page");
}

#[test]
fn every_section_that_the_page_links_to_is_there() {
    let page = page();
    let anchors: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|char| char.is_alphanumeric() || " -".contains(*char));
            kept.map(|char| if char == ' ' { '-' } else { char }).collect()
        })
        .collect();
    for (at, _) in page.match_indices("](#") {
        let target: String = page[at + 3..].chars().take_while(|char| *char != ')').collect();
        assert!(anchors.contains(&target), "{target} is no section of the page: {anchors:?}");
    }
}
