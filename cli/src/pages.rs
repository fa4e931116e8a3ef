//! The man pages of the command and its verbs, held to what the command line knows. `HAWSER_BLESS=1` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;

use crate::args::Cli;

#[test]
fn man_pages_say_what_the_command_line_knows() {
    let made = tempfile::tempdir().unwrap();
    let mut command = Cli::command().disable_help_flag(false);
    command = command.version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command, made.path()).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/man");
    let mut made = pages(made.path());
    made.retain(|name, _| !name.contains("-help"));
    if std::env::var_os("HAWSER_BLESS").is_some() {
        for name in pages(&kept).keys() {
            fs::remove_file(kept.join(name)).unwrap();
        }
        made.iter().for_each(|(name, page)| fs::write(kept.join(name), page).unwrap());
    }
    let kept = pages(&kept);
    assert_eq!(kept.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>(), "HAWSER_BLESS=1 writes them");
    for (name, page) in made {
        assert_eq!(kept[&name], page, "{name}: HAWSER_BLESS=1 writes it");
    }
}

/// Pages of section 1 by name.
fn pages(dir: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|section| section == "1"));
    pages
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}
