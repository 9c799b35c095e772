//! Fetches Debian packages through apt, with a separate package index under `target/nested`. The
//! machine's own apt configuration is read but not changed.
//!
//! QEMU 8 and a 6.12 kernel are in Debian 13, and in the backports of Debian 12. The package
//! sources are taken from the machine's own apt configuration, so no host name is hard-coded here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Indexes older than this are fetched again.
const INDEX_AGE: Duration = Duration::from_secs(20 * 3600);

/// apt with its own package index.
pub(crate) struct Apt {
    folder: PathBuf,
    /// Target release to install from, if the distribution's own packages are too old.
    backports: Option<String>,
}

impl Apt {
    /// Reads the machine's sources and brings the index up to date.
    pub(crate) fn prepare(cache: &Path) -> Result<Self> {
        let folder = cache.join("apt");
        fs::create_dir_all(folder.join("lists/partial"))?;
        fs::create_dir_all(folder.join("archives/partial"))?;
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = debian_codename(&release)
            .context("this is no Debian machine, and only Debian's packages are known here")?;
        let stanzas = own_stanzas(&codename)?;
        let apt = Self {
            backports: (codename == "bookworm").then(|| format!("{codename}-backports")),
            folder,
        };
        let sources = apt.folder.join("debian.sources");
        let text = stanzas.join("\n");
        let known = fs::read_to_string(&sources).is_ok_and(|old| old == text);
        if !known || !is_fresh(&apt.folder.join("lists")) {
            fs::write(&sources, text)?;
            apt.update()?;
        }
        Ok(apt)
    }

    fn update(&self) -> Result<()> {
        eprintln!("nested: fetching the package index");
        run(self.command("apt-get").args(["-qq", "update"]))
    }

    /// Installs a package. Needs root.
    pub(super) fn install(&self, package: &str) -> Result<()> {
        eprintln!("nested: installing {package}");
        let mut command = self.command("apt-get");
        command.args(["-qq", "-y", "--no-install-recommends", "install", package]);
        run(command.env("DEBIAN_FRONTEND", "noninteractive"))
    }

    /// Returns the first dependency of a package: the real package that a metapackage points to.
    pub(super) fn dependency(&self, package: &str) -> Result<String> {
        let first = self.dependencies(package)?.into_iter().next();
        first.with_context(|| format!("apt knows no package {package}"))
    }

    /// Returns the packages that a package depends on.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let output = self.command("apt-cache").args(["depends", package]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(str::to_owned).collect())
    }

    /// Downloads a package into a folder and returns the path of the file. Needs no root.
    pub(crate) fn download(&self, package: &str, into: &Path) -> Result<PathBuf> {
        eprintln!("nested: fetching {package}");
        run(self.command("apt-get").args(["-qq", "download", package]).current_dir(into))?;
        let debs = fs::read_dir(into)?.flatten().map(|entry| entry.path());
        let deb = debs.filter(|path| path.extension().is_some_and(|end| end == "deb")).max();
        deb.with_context(|| format!("apt fetched no {package}"))
    }

    /// The command line with which a user can do by hand what [`Self::install`] does.
    pub(super) fn line_to_type(&self, package: &str) -> String {
        let mut command = self.command("apt-get");
        command.args(["install", "--no-install-recommends", package]);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        format!("sudo apt-get {}", words.join(" "))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, path: &Path| {
            command.arg("-o").arg(format!("{name}={}", path.display()));
        };
        option("Dir::Etc::sourcelist", &self.folder.join("debian.sources"));
        option("Dir::Etc::sourceparts", Path::new("/dev/null"));
        option("Dir::State::lists", &self.folder.join("lists"));
        option("Dir::Cache", &self.folder);
        // When run as root, apt would switch to a user who cannot write here, and print a warning.
        command.args(["-o", "APT::Sandbox::User=root"]);
        if let Some(release) = &self.backports {
            command.args(["-t", release]);
        }
        command
    }
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} cannot be started"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        bail!("{name} failed: {errors}");
    }
    Ok(())
}

fn is_fresh(lists: &Path) -> bool {
    let stamp = fs::read_dir(lists).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let age = entry.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
        name.contains("Packages").then_some(age)
    });
    // The files carry the server's modification times, so the age of the index is taken from the
    // folder's own modification time.
    let touched = fs::metadata(lists).and_then(|folder| folder.modified());
    let age = touched.ok().and_then(|time| time.elapsed().ok());
    stamp.count() > 0 && age.is_some_and(|age| age < INDEX_AGE)
}

/// The codename in an os-release file, if the distribution is Debian.
fn debian_codename(release: &str) -> Option<String> {
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME")).flatten()
}

/// The machine's own Debian sources, with backports added.
fn own_stanzas(codename: &str) -> Result<Vec<String>> {
    let mut stanzas = Vec::new();
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let mut files: Vec<_> = folder.map(|entry| entry.path()).collect();
    files.push("/etc/apt/sources.list".into());
    files.sort();
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if path.extension().is_some_and(|end| end == "sources") {
            stanzas.extend(text.split("\n\n").filter_map(|stanza| from_deb822(stanza, codename)));
        } else {
            stanzas.extend(text.lines().filter_map(|line| from_line(line, codename)));
        }
    }
    if stanzas.is_empty() {
        bail!("no source for {codename} stands in /etc/apt: add Debian's own");
    }
    Ok(stanzas)
}

/// Converts a stanza of the deb822 format, if it is for this release.
fn from_deb822(stanza: &str, codename: &str) -> Option<String> {
    let field = |key: &str| stanza.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    if !field("Types:")?.split_whitespace().any(|kind| kind == "deb") {
        return None;
    }
    let signed_by = field("Signed-By:").map(|key| format!("Signed-By: {key}\n"));
    source(field("URIs:")?, field("Suites:")?, codename, &signed_by.unwrap_or_default())
}

/// Converts a line of the one-line format, if it is for this release.
fn from_line(line: &str, codename: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb ")?.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let key = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let signed_by = key.map(|key| format!("Signed-By: {key}\n")).unwrap_or_default();
    let mut words = rest.split_whitespace();
    source(words.next()?, words.next()?, codename, &signed_by)
}

fn source(uris: &str, suites: &str, codename: &str, signed_by: &str) -> Option<String> {
    let mine = |suite: &&str| *suite == codename || suite.starts_with(&format!("{codename}-"));
    let mut suites: Vec<_> = suites.split_whitespace().filter(mine).map(str::to_owned).collect();
    if suites.is_empty() {
        return None;
    }
    let backports = format!("{codename}-backports");
    if suites.iter().any(|suite| suite == codename) && !suites.contains(&backports) {
        suites.push(backports);
    }
    let suites = suites.join(" ");
    Some(format!("Types: deb\nURIs: {uris}\nSuites: {suites}\nComponents: main\n{signed_by}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_come_from_where_the_release_comes_from() {
        let stanza = "Types: deb\n# a comment\nURIs: http://mirror.invalid/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /key.gpg";
        let ours = from_deb822(stanza, "bookworm").unwrap();
        assert!(ours.contains("URIs: http://mirror.invalid/debian\n"));
        assert!(ours.contains("Suites: bookworm bookworm-updates bookworm-backports\n"));
        assert!(ours.ends_with("Signed-By: /key.gpg\n"));

        let line = "deb [signed-by=/key.gpg arch=amd64] http://mirror.invalid/debian bookworm main";
        assert!(from_line(line, "bookworm").unwrap().contains("bookworm bookworm-backports\n"));
    }

    #[test]
    fn other_sources_are_left_out() {
        let stanza = "Types: deb\nURIs: http://other.invalid\nSuites: nodistro\nComponents: main";
        assert_eq!(from_deb822(stanza, "bookworm"), None);
        assert_eq!(from_line("# deb http://mirror.invalid bookworm main", "bookworm"), None);
        assert_eq!(from_line("deb http://other.invalid stable main", "bookworm"), None);
    }

    #[test]
    fn only_debian_has_a_codename_here() {
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(debian_codename(debian).as_deref(), Some("bookworm"));
        assert_eq!(debian_codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
    }
}
