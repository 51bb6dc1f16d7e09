//! What is generated is committed, and compared. To renew: `UPDATE_DOCS=1 cargo test --features fault-points docs::`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use cc_warm::alert::kind;
use cc_warm::cli::Cli;
use cc_warm::config::raw;
use clap::{Command, CommandFactory};

fn docs(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(path)
}

#[track_caller]
fn same(path: &str, generated: &str) {
    let file = docs(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, generated).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    let renew = "UPDATE_DOCS=1 cargo test --manifest-path pkgs/cc-warm/Cargo.toml --features fault-points docs::";
    assert!(committed == generated, "docs/{path} is not what the program says; renew it: {renew}");
}

#[test]
fn the_schema_of_the_configuration_is_as_committed() {
    same("reference/config.schema.json", &(serde_json::to_string_pretty(&raw::schema()).unwrap() + "\n"));
}

#[test]
fn the_operators_page_has_every_alert() {
    let head = include_str!("../../../../docs/operate.head.md");
    same("operate.md", &format!("{head}\n## Alerts\n\n{}", kind::reference()));
}

#[test]
fn the_command_line_reference_is_as_committed() {
    let mut text = "# Command line\n\nGenerated from the program.\n".to_owned();
    let mut root = Cli::command().term_width(100);
    root.build();
    describe(&mut root, "cc-warm", 2, &mut text);
    same("reference/cli.md", &text);
}

fn describe(command: &mut Command, name: &str, level: usize, text: &mut String) {
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(text, "\n{} `{name}`\n\n```\n{}\n```\n", "#".repeat(level), help.join("\n").trim_end());
    for sub in command.get_subcommands_mut() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            let name = format!("{name} {}", sub.get_name());
            describe(sub, &name, 3, text);
        }
    }
}
