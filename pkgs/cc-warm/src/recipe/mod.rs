//! Recipes: what a git remote publishes, and how to have one version of it on disk.

pub mod version;
