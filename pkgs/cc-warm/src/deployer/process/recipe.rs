//! What a recipe for this deployer says: `Procfile`, `Volumes`, `.env.sample`. Pure: bytes in, a plan out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::identity::Env;
use crate::sys::untrusted::Untrusted;

/// The three files.
pub(super) const FILES: [&str; 3] = ["Procfile", "Volumes", ".env.sample"];
/// The most bytes that each of them may have.
pub(super) const FILE_CAP: u64 = 64 << 10;
/// Processes and volumes of one recipe.
const MOST: usize = 64;

/// The three files, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Recipe {
    /// Process names and the words of their commands, in the order of the file.
    pub(super) processes: Vec<(String, Vec<String>)>,
    /// Volume names and the variables that hold their paths.
    pub(super) volumes: BTreeMap<String, String>,
    /// Variables and their defaults.
    pub(super) defaults: BTreeMap<String, String>,
    /// Variables that must be set.
    pub(super) required: BTreeSet<String>,
}

/// What is put into a recipe's blanks.
pub(super) struct Surroundings<'a> {
    /// The configured environment.
    pub(super) env: &'a Env,
    /// What cc-warm sets, which neither recipe nor configuration can change.
    pub(super) reserved: BTreeMap<String, String>,
    /// What they can.
    pub(super) base: BTreeMap<String, String>,
    /// Where the data of the volume with this name (without the stack's) lies.
    pub(super) volume: &'a dyn Fn(&str) -> PathBuf,
}

/// Exactly what is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Process names and argument vectors.
    pub(super) processes: Vec<(String, Vec<String>)>,
    /// The whole environment of each.
    pub(super) env: BTreeMap<String, String>,
}

impl Recipe {
    /// Parses the files; a missing one is `None`.
    pub(super) fn parse(procfile: Option<&[u8]>, volumes: Option<&[u8]>, sample: Option<&[u8]>) -> Result<Self> {
        let mut recipe = Self::default();
        let procfile = procfile.context("the recipe has no `Procfile`, so the process deployer cannot run it")?;
        for (number, line) in lines(procfile, "Procfile")? {
            recipe.read_process(line).with_context(|| format!("`Procfile`, line {number}"))?;
        }
        ensure!(!recipe.processes.is_empty(), "`Procfile` names no process");
        for (number, line) in lines(volumes.unwrap_or_default(), "Volumes")? {
            recipe.read_volume(line).with_context(|| format!("`Volumes`, line {number}"))?;
        }
        for (number, line) in lines(sample.unwrap_or_default(), ".env.sample")? {
            recipe.read_default(line).with_context(|| format!("`.env.sample`, line {number}"))?;
        }
        ensure!(
            recipe.processes.len() <= MOST && recipe.volumes.len() <= MOST,
            "more than {MOST} processes or volumes"
        );
        Ok(recipe)
    }

    fn read_process(&mut self, line: &str) -> Result<()> {
        let (name, command) = line.split_once(':').context("no `name: command`")?;
        let name = name.trim();
        ensure!(plain(name), "the name of a process is made of a-z, A-Z, 0-9, - and _");
        ensure!(self.processes.iter().all(|(known, _)| known != name), "`{name}` is there twice");
        let words = shlex::split(command).with_context(|| format!("the command of `{name}` has an open quote"))?;
        ensure!(!words.is_empty(), "`{name}` has no command");
        self.processes.push((name.to_owned(), words));
        Ok(())
    }

    fn read_volume(&mut self, line: &str) -> Result<()> {
        let (name, variable) = line.split_once(':').context("no `name: VARIABLE`")?;
        let (name, variable) = (name.trim(), variable.trim());
        ensure!(plain(name), "the name of a volume is made of a-z, A-Z, 0-9, - and _");
        ensure!(is_variable(variable), "the variable of volume `{name}` is no name of a variable");
        ensure!(self.volumes.values().all(|known| known != variable), "`{variable}` stands for two volumes");
        let before = self.volumes.insert(name.to_owned(), variable.to_owned());
        ensure!(before.is_none(), "`{name}` is there twice");
        Ok(())
    }

    fn read_default(&mut self, line: &str) -> Result<()> {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line.split_once('=').context("no `KEY=value`")?;
        let key = key.trim();
        ensure!(is_variable(key), "what stands before `=` is no name of a variable");
        let value = value_of(value);
        if value.is_empty() {
            self.required.insert(key.to_owned());
            self.defaults.remove(key);
        } else {
            self.required.remove(key);
            self.defaults.insert(key.to_owned(), value);
        }
        Ok(())
    }

    /// Fills in the blanks. Whatever is missing is an error now, and not when the app is down.
    pub(super) fn plan(&self, surroundings: &Surroundings<'_>) -> Result<Plan> {
        let mut env = surroundings.base.clone();
        env.extend(self.defaults.clone());
        env.extend(surroundings.env.0.clone());
        for (name, variable) in &self.volumes {
            ensure!(!surroundings.reserved.contains_key(variable), "volume `{name}` claims the variable `{variable}`");
            let path = (surroundings.volume)(name);
            env.insert(variable.clone(), path.to_str().context("a path that is not UTF-8")?.to_owned());
        }
        env.extend(surroundings.reserved.clone());
        let missing: Vec<&str> =
            self.required.iter().filter(|key| !env.contains_key(*key)).map(String::as_str).collect();
        ensure!(missing.is_empty(), "the recipe requires variables that are not set: {}", missing.join(", "));
        for (key, value) in &env {
            // The value may be a secret: it is not shown.
            ensure!(is_variable(key), "`{}` is no name of a variable", Untrusted::new(key).terminal());
            ensure!(!value.contains('\0'), "the value of `{key}` holds a NUL");
        }
        let expand_all = |(name, words): &(String, Vec<String>)| {
            let argv: Result<Vec<String>> = words.iter().map(|word| expand(word, &env)).collect();
            let argv = argv.with_context(|| format!("process `{name}`"))?;
            ensure!(argv.first().is_some_and(|program| !program.is_empty()), "process `{name}` has an empty command");
            ensure!(argv.iter().all(|word| !word.contains('\0')), "the command of `{name}` holds a NUL");
            Ok((name.clone(), argv))
        };
        let processes = self.processes.iter().map(expand_all).collect::<Result<_>>()?;
        Ok(Plan { processes, env })
    }
}

/// Lines with something on them, and their numbers.
fn lines<'a>(bytes: &'a [u8], file: &str) -> Result<Vec<(usize, &'a str)>> {
    ensure!(bytes.len() as u64 <= FILE_CAP, "`{file}` has more than {FILE_CAP} bytes");
    let text = std::str::from_utf8(bytes).with_context(|| format!("`{file}` is not UTF-8"))?;
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    Ok(numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect())
}

fn plain(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-')
}

fn is_variable(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !name.is_empty() && name.bytes().all(inner) && !name.as_bytes()[0].is_ascii_digit()
}

/// Without its quotes, or without the comment that follows it.
fn value_of(text: &str) -> String {
    let text = text.trim();
    for quote in ['"', '\''] {
        if let Some((inside, _)) = text.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            return inside.to_owned();
        }
    }
    if text.starts_with('#') {
        return String::new();
    }
    text.split_once(" #").map_or(text, |(value, _)| value).trim().to_owned()
}

/// `$VAR` and `${VAR}` from `env`, `$$` as a dollar sign. What is put in is not looked at again.
fn expand(word: &str, env: &BTreeMap<String, String>) -> Result<String> {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').context("`${` without `}`")?,
            None => after.split_at(after.bytes().take_while(|&c| c.is_ascii_alphanumeric() || c == b'_').count()),
        };
        if !is_variable(name) {
            bail!("`$` without the name of a variable (`$$` is a dollar sign)");
        }
        out.push_str(env.get(name).with_context(|| format!("`${name}` is not set"))?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads the three files of the code at `release`, which is foreign: no link is followed.
pub(super) fn read(release: &Path) -> Result<Recipe> {
    let file = |name: &str| -> Result<Option<Vec<u8>>> {
        use std::io::Read;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let opened =
            std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(release.join(name));
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("`{name}` of the recipe cannot be read")),
        };
        ensure!(file.metadata()?.is_file(), "`{name}` of the recipe is not a regular file");
        let mut bytes = Vec::new();
        file.take(FILE_CAP + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    let [procfile, volumes, sample] = FILES.map(file);
    Recipe::parse(procfile?.as_deref(), volumes?.as_deref(), sample?.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(recipe: &Recipe, env: &[(&str, &str)]) -> Result<Plan> {
        let env = Env(env.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect());
        recipe.plan(&Surroundings {
            env: &env,
            reserved: BTreeMap::from([("STACK_NAME".to_owned(), "a_b".to_owned())]),
            base: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
            volume: &|name| PathBuf::from(format!("/volumes/a_b_{name}/_data")),
        })
    }

    fn parse(procfile: &str, volumes: &str, sample: &str) -> Result<Recipe> {
        Recipe::parse(Some(procfile.as_bytes()), Some(volumes.as_bytes()), Some(sample.as_bytes()))
    }

    #[test]
    fn a_command_is_split_like_a_shell_does_and_never_run_by_one() {
        let recipe = parse(
            "# a comment\nweb: bin/serve --name \"two words\" $PORT;rm ${DATA}/x $$HOME `id` *\nworker: $CMD\n",
            "data: DATA\n",
            "PORT=80 # the port\n",
        )
        .unwrap();
        let plan = plan(&recipe, &[("CMD", "a b; $PORT")]).unwrap();
        assert_eq!(
            plan.processes[0].1,
            ["bin/serve", "--name", "two words", "80;rm", "/volumes/a_b_data/_data/x", "$HOME", "`id`", "*"]
        );
        assert_eq!(plan.processes[1].1, ["a b; $PORT"], "what is put in is neither split nor expanded");
    }

    #[test]
    fn the_configured_environment_wins_over_the_sample_and_reserved_names_over_all() {
        let recipe =
            parse("web: x", "data: DATA", "A=sample\nB='quoted # text'\nSTACK_NAME=evil\nPATH=/usr/bin").unwrap();
        let env = plan(&recipe, &[("A", "configured"), ("DATA", "/etc"), ("STACK_NAME", "evil")]).unwrap().env;
        let want = [
            ("A", "configured"),
            ("B", "quoted # text"),
            ("DATA", "/volumes/a_b_data/_data"),
            ("PATH", "/usr/bin"),
            ("STACK_NAME", "a_b"),
        ];
        assert_eq!(env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), want);
    }

    #[test]
    fn an_empty_key_without_a_comment_sign_is_required() {
        let recipe = parse("web: x", "", "A=\n#B=\nC=''\nD= # no default\nE=1").unwrap();
        assert_eq!(recipe.required.iter().map(String::as_str).collect::<Vec<_>>(), ["A", "C", "D"]);
        let error = plan(&recipe, &[("A", "1")]).unwrap_err().to_string();
        assert!(error.ends_with("not set: C, D"), "{error}");
        plan(&recipe, &[("A", "1"), ("C", ""), ("D", "")]).unwrap();
    }

    #[test]
    fn refuses_what_it_cannot_mean_and_names_the_line() {
        for (procfile, volumes, sample, want) in [
            ("", "", "", "names no process"),
            ("web", "", "", "line 1"),
            ("\n\nweb: 'open", "", "", "line 3"),
            ("web:  ", "", "", "no command"),
            ("web: x\nweb: y", "", "", "twice"),
            ("../x: y", "", "", "made of"),
            ("web: x", "../data: DATA", "", "made of"),
            ("web: x", "data: D-A", "", "no name of a variable"),
            ("web: x", "a: X\nb: X", "", "two volumes"),
            ("web: x", "data: STACK_NAME", "", "claims the variable"),
            ("web: x", "", "no equals sign", "line 1"),
            ("web: $NOPE", "", "", "`$NOPE` is not set"),
            ("web: a$", "", "", "dollar sign"),
            ("web: ${A", "", "", "without `}`"),
            ("web: $A", "", "A=\"\"", "not set: A"),
            ("web: ''", "", "", "empty command"),
        ] {
            let outcome = parse(procfile, volumes, sample).and_then(|recipe| plan(&recipe, &[]));
            let error = format!("{:#}", outcome.unwrap_err());
            assert!(error.contains(want), "{procfile:?} {volumes:?} {sample:?}: {error}");
        }
        assert!(Recipe::parse(None, None, None).is_err());
        assert!(Recipe::parse(Some(&vec![b'#'; 70_000]), None, None).is_err());
        assert!(Recipe::parse(Some(b"web: \xff"), None, None).is_err());
    }

    #[test]
    fn no_link_of_a_recipe_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("Procfile")).unwrap();
        let error = format!("{:#}", read(dir.path()).unwrap_err());
        assert!(error.contains("`Procfile`") && !error.contains("root"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_recipe_says_makes_it_panic(procfile in ".{0,200}", volumes in ".{0,80}", sample in ".{0,80}") {
            if let Ok(recipe) = parse(&procfile, &volumes, &sample) {
                let _ = plan(&recipe, &[("A", "x")]);
            }
        }

        #[test]
        fn a_value_reaches_its_process_as_it_is(value in "[^\0]{0,40}") {
            let recipe = parse("web: run $A \"x${A}y\"", "", "").unwrap();
            let plan = plan(&recipe, &[("A", &value)]).unwrap();
            proptest::prop_assert_eq!(&plan.processes[0].1[1], &value);
            proptest::prop_assert_eq!(&plan.processes[0].1[2], &format!("x{value}y"));
        }
    }
}
