//! The man pages of the daemons, held to what their command lines know. `HAWSER_BLESS=1` writes them.

use clap::CommandFactory as _;

#[test]
fn man_pages_say_what_the_daemons_know() {
    let commands = [
        hawser_agent::Args::command(),
        hawser_proxy::options::Options::command(),
        hawser_discovery::args::Args::command(),
    ];
    for command in commands {
        let name = format!("{}.8", command.get_name());
        let mut page = Vec::new();
        clap_mangen::Man::new(command).section("8").render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let path = hawser_tests::programs::source_root().join("packaging/man").join(&name);
        if std::env::var_os("HAWSER_BLESS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(kept, page, "{name}: HAWSER_BLESS=1 writes it");
    }
}
