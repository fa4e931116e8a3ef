//! Which file of a package lies where.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Dist, Platform, output};
use crate::{must, root};

/// The programs that are shipped.
pub(crate) const PROGRAMS: [&str; 4] = ["hawser", "hawser-agent", "hawser-proxy", "hawser-discovery"];

const UNITS: &str = "usr/lib/systemd/system";

/// A file of a package.
pub(super) struct File {
    pub(super) from: PathBuf,
    /// From the root, without a leading slash.
    pub(super) to: String,
    pub(super) mode: u32,
}

/// Programs without symbols, the man pages, the completions: what is made once for all packages. Where they lie.
pub(super) fn programs(dist: &Dist, platform: &Platform) -> Result<PathBuf> {
    let dir = dist.room(&format!("programs-{}", platform.deb))?;
    for program in PROGRAMS {
        let from = platform.shipped(dist.debug).join(program);
        fs::copy(&from, dir.join(program)).with_context(|| from.display().to_string())?;
        let mut strip = Command::new(format!("{}strip", platform.tools));
        strip.args(["--strip-all", "--remove-section=.comment"]).arg(dir.join(program));
        must(strip)?;
    }
    // A program for another processor can't be asked; this machine's was built first.
    let own = Platform::own().shipped(dist.debug).join("hawser");
    for shell in ["bash", "zsh", "fish"] {
        let script = output(Command::new(&own).args(["completions", shell]))?;
        fs::write(dir.join(format!("hawser.{shell}")), script)?;
    }
    for page in pages()? {
        let name = page.file_name().unwrap_or_default();
        compress(&page, &dir.join(format!("{}.gz", name.to_string_lossy())))?;
    }
    compress(&root().join("CHANGELOG.md"), &dir.join("changelog.gz"))?;
    Ok(dir)
}

/// The man pages, which tests keep true.
pub(super) fn pages() -> Result<Vec<PathBuf>> {
    let dir = root().join("packaging/man");
    let entries = fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let mut pages: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    pages.sort();
    ensure!(!pages.is_empty(), "{} holds no page", dir.display());
    Ok(pages)
}

/// The files of a package that deb and rpm have alike.
pub(super) fn of(package: &str, made: &Path) -> Result<Vec<File>> {
    let packaging = root().join("packaging");
    let mut files = Vec::new();
    let mut add = |from: PathBuf, to: String, mode| files.push(File { from, to, mode });
    let program = |name: &str| (made.join(name), format!("usr/bin/{name}"), 0o755);
    let page = |name: String| {
        let section = name.chars().last().unwrap_or('1');
        (made.join(format!("{name}.gz")), format!("usr/share/man/man{section}/{name}.gz"), 0o644)
    };
    let unit = |name: &str| (packaging.join("systemd").join(name), format!("{UNITS}/{name}"), 0o644);
    let settings = |name: &str| (packaging.join("etc").join(name), format!("etc/hawser/{name}"), 0o644);
    let mut all = Vec::new();
    match package {
        "hawser" => {
            all.push(program("hawser"));
            for path in pages()? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if name.ends_with(".1") {
                    all.push(page(name));
                }
            }
            let completions = [
                ("bash", "usr/share/bash-completion/completions/hawser"),
                ("zsh", "usr/share/zsh/vendor-completions/_hawser"),
                ("fish", "usr/share/fish/vendor_completions.d/hawser.fish"),
            ];
            for (shell, to) in completions {
                all.push((made.join(format!("hawser.{shell}")), to.to_owned(), 0o644));
            }
        }
        "hawser-agent" => {
            all.extend([program("hawser-agent"), program("hawser-proxy")]);
            all.extend([page("hawser-agent.8".into()), page("hawser-proxy.8".into())]);
            let units = ["agent.service", "guard.service", "proxy.service", "proxy.path", "ready.target"];
            all.extend(units.map(|name| unit(&format!("hawser-{name}"))));
            all.push(settings("agent.yaml"));
        }
        _ => {
            all.extend([program("hawser-discovery"), page("hawser-discovery.8".into())]);
            all.push(unit("hawser-discovery.service"));
            all.push(settings("discovery.env"));
        }
    }
    for folder in ["sysusers.d", "tmpfiles.d"] {
        let from = packaging.join(folder).join(format!("{package}.conf"));
        if from.is_file() {
            all.push((from, format!("usr/lib/{folder}/{package}.conf"), 0o644));
        }
    }
    all.push((made.join("changelog.gz"), format!("usr/share/doc/{package}/changelog.gz"), 0o644));
    for (from, to, mode) in all {
        add(from, to, mode);
    }
    Ok(files)
}

/// Directories that a package brings without a file in them.
pub(super) fn directories(package: &str) -> &'static [&'static str] {
    if package == "hawser-discovery" { &["etc/hawser/config.d"] } else { &[] }
}

/// Files that people edit, from the root.
pub(super) fn settings(files: &[File]) -> Vec<String> {
    files.iter().filter(|file| file.to.starts_with("etc/")).map(|file| format!("/{}", file.to)).collect()
}

/// Puts files where they belong below a directory.
pub(super) fn lay_out(files: &[File], directories: &[&str], tree: &Path) -> Result<()> {
    for directory in directories {
        fs::create_dir_all(tree.join(directory))?;
    }
    for file in files {
        let to = tree.join(&file.to);
        fs::create_dir_all(to.parent().unwrap_or(tree))?;
        fs::copy(&file.from, &to).with_context(|| file.from.display().to_string())?;
        fs::set_permissions(&to, fs::Permissions::from_mode(file.mode))?;
    }
    open_directories(tree)
}

/// Directories of a package are everybody's to look into, whatever this machine's umask is.
fn open_directories(tree: &Path) -> Result<()> {
    let mut chmod = Command::new("find");
    chmod.arg(tree).args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]);
    must(chmod)
}

/// Compresses a file as packages have them, without its name and time.
pub(super) fn compress(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| from.display().to_string())?;
    fs::write(to, gzip(&bytes)?)?;
    Ok(())
}

/// The same of bytes.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    let mut child = gzip.args(["-9", "-n", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    let bytes = bytes.to_vec();
    // It may write before it has read all.
    let fed = std::thread::spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(&bytes)));
    let done = child.wait_with_output()?;
    fed.join().map_err(|_| anyhow::anyhow!("gzip was not fed"))??;
    ensure!(done.status.success(), "gzip ended with {}", done.status);
    Ok(done.stdout)
}
