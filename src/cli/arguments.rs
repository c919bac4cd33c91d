//! What was typed: the command line as clap sees it. What it means is decided
//! in the commands' own files.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    backup, cat, check, completions, config, copy, diff, drill, dump, find, forget, history, init,
    key, ls, man, prune, recover, repair, restore, run, schedule, scrub, snapshots, stats, status,
    store, tag, undo, values,
};
use crate::store::address::connections;

/// Encrypted, deduplicating backup.
#[derive(Parser)]
#[command(name = "esker", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
Environment: ESKER_REPOSITORY, ESKER_PASSWORD, ESKER_PASSWORD_FILE, ESKER_PASSWORD_COMMAND,
ESKER_KEY_FILE, ESKER_CACHE_DIR, ESKER_CONFIG. The first five with ESKER_TO_, ESKER_SECOND_ or
ESKER_CHUNKER_FROM_ in front mean the other repository of copy --to, restore --second and
init --chunker-from. Of stores: ESKER_FTP_PASSWORD, ESKER_WEBDAV_PASSWORD (or the same with
_COMMAND), ESKER_SFTP_PASSWORD_COMMAND, AWS_…, AZURE_STORAGE_…, GOOGLE_APPLICATION_CREDENTIALS.

Exit codes: 0 ok, 1 error and nothing done, 2 usage, 3 done but some files could not be read or
written, 10 no repository, 12 wrong password or key, 13 the key lacks the right, 20 damage found,
21 stale, overdue or unreachable, 22 drill failed, 75 try later, 130 interrupted.")]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The repository: its name in the configuration, a directory, or s3://, azblob://, gcs://,
    /// sftp://, ftp://, ftps://, webdav://
    #[arg(short, long, global = true, value_name = "URL|PATH|NAME")]
    pub repository: Option<OsString>,

    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,

    /// Print failures only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print notes as well
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Open the repository with this key file
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(conflicts_with_all = ["password_file", "password_command", "identity"])]
    pub key_file: Option<PathBuf>,

    /// Read the password from this file
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(conflicts_with_all = ["password_command", "identity"])]
    pub password_file: Option<PathBuf>,

    /// Run this in a shell; it prints the password
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with = "identity")]
    pub password_command: Option<OsString>,

    /// Open the repository with a recipient's private key
    #[arg(long, global = true, value_name = "FILE")]
    pub identity: Option<PathBuf>,

    /// Keep caches in this directory
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,

    /// Keep no cache: slower, and a replaced repository is not noticed
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub no_cache: bool,

    /// Read this configuration file, or all *.toml of this directory
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,

    /// Send at most so many bytes a second to stores on other machines: 500K, 2M
    #[arg(long, global = true, value_name = "RATE", value_parser = values::rate)]
    pub limit_upload: Option<u64>,

    /// Receive at most so many bytes a second from them
    #[arg(long, global = true, value_name = "RATE", value_parser = values::rate)]
    pub limit_download: Option<u64>,

    /// Ask such a store so many things at once, at most
    #[arg(long, global = true, value_name = "N", value_parser = connections)]
    pub connections: Option<usize>,

    /// Accept that another repository lies here than this machine used before
    #[arg(long, global = true)]
    pub accept_other_repository: bool,
}

#[derive(Subcommand)]
pub enum Command {
    Init(init::Arguments),
    Backup(Box<backup::Arguments>),
    Snapshots(snapshots::Arguments),
    Status(status::Arguments),
    History(history::Arguments),
    Tag(tag::Arguments),
    Restore(restore::Arguments),
    Ls(ls::Arguments),
    Dump(dump::Arguments),
    Find(find::Arguments),
    Diff(diff::Arguments),
    Stats(stats::Arguments),
    Forget(Box<forget::Arguments>),
    Undo(undo::Arguments),
    Prune(prune::Arguments),
    Copy(copy::Arguments),
    Check(check::Arguments),
    Drill(drill::Arguments),
    Scrub(scrub::Arguments),
    Repair(repair::Arguments),
    Key(key::Arguments),
    Cat(cat::Arguments),
    Recover(recover::Arguments),
    Run(run::Arguments),
    Schedule(schedule::Arguments),
    Config(config::Arguments),
    Store(store::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}
