//! Compiled system call filters. Making one takes libseccomp longer than all else of a container's start, so each
//! profile is compiled once; containers get the program.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

use crate::files;
use crate::images::digest_of;

/// The compiled profile. `cache` holds one program for each.
pub fn compiled(profile: &serde_json::Value, cache: &Path) -> io::Result<PathBuf> {
    let text = profile.to_string();
    // The version is in the name: another one of this program may compile the same profile otherwise.
    let name = digest_of([text.as_bytes(), env!("CARGO_PKG_VERSION").as_bytes()].concat().as_slice());
    let path = cache.join(format!("{}.bpf", name.trim_start_matches("sha256:")));
    if !path.exists() {
        let profile: LinuxSeccomp = serde_json::from_str(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("read seccomp profile: {error}")))?;
        files::private_directory(cache)?;
        let temporary = cache.join(format!("{}.part", uuid::Uuid::new_v4().simple()));
        let written = compile(&profile, &fs::File::create(&temporary)?);
        if let Err(error) = written {
            files::remove(&temporary)?;
            return Err(io::Error::other(format!("compile seccomp profile: {error}")));
        }
        fs::rename(&temporary, &path)?;
    }
    Ok(path)
}

/// Writes the program to the file.
fn compile(profile: &LinuxSeccomp, to: &fs::File) -> Result<(), String> {
    let text = |error: libseccomp::error::SeccompError| error.to_string();
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut context = ScmpFilterContext::new(default).map_err(text)?;
    for arch in profile.architectures().iter().flatten() {
        let name = serde_json::to_value(arch).map_err(|error| error.to_string())?;
        let arch: ScmpArch = name.as_str().unwrap_or_default().parse().map_err(text)?;
        context.add_arch(arch).map_err(text)?;
    }
    // A tree of comparisons instead of a list: every system call of the container runs through it.
    context.set_ctl_optimize(2).map_err(text)?;
    for rule in profile.syscalls().iter().flatten() {
        add(&mut context, rule, default)?;
    }
    context.export_bpf(to).map_err(text)
}

fn add(context: &mut ScmpFilterContext, rule: &LinuxSyscall, default: ScmpAction) -> Result<(), String> {
    let wanted = action(rule.action(), rule.errno_ret())?;
    if wanted == default {
        return Ok(());
    }
    let conditions: Vec<ScmpArgCompare> = rule.args().iter().flatten().map(condition).collect();
    // libseccomp compares an argument once in a rule; runc makes rules of their own then.
    let indexes: BTreeSet<usize> = rule.args().iter().flatten().map(|arg| arg.index()).collect();
    let alternatives: Vec<&[ScmpArgCompare]> =
        if indexes.len() < conditions.len() { conditions.chunks(1).collect() } else { vec![&conditions] };
    // Names that this machine does not have are passed over.
    for call in rule.names().iter().filter_map(|name| ScmpSyscall::from_name(name).ok()) {
        for conditions in &alternatives {
            let added = if conditions.is_empty() {
                context.add_rule(wanted, call)
            } else {
                context.add_rule_conditional(wanted, call, conditions)
            };
            added.map(drop).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn action(action: Action, errno: Option<u32>) -> Result<ScmpAction, String> {
    let errno = errno.map_or(libc::EPERM, |errno| errno as i32);
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => ScmpAction::KillThread,
        Action::ScmpActKillProcess => ScmpAction::KillProcess,
        Action::ScmpActTrap => ScmpAction::Trap,
        Action::ScmpActErrno => ScmpAction::Errno(errno),
        Action::ScmpActTrace => ScmpAction::Trace(u16::try_from(errno).unwrap_or(0)),
        Action::ScmpActAllow => ScmpAction::Allow,
        Action::ScmpActLog => ScmpAction::Log,
        Action::ScmpActNotify => return Err("SCMP_ACT_NOTIFY needs a listener, which this runtime has not".into()),
    })
}

fn condition(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let operator = match arg.op() {
        Operator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        Operator::ScmpCmpLt => ScmpCompareOp::Less,
        Operator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        Operator::ScmpCmpEq => ScmpCompareOp::Equal,
        Operator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        Operator::ScmpCmpGt => ScmpCompareOp::Greater,
        // OCI has the mask first and what is wanted under it second.
        Operator::ScmpCmpMaskedEq => {
            let wanted = arg.value_two().unwrap_or(0);
            return ScmpArgCompare::new(arg.index() as u32, ScmpCompareOp::MaskedEqual(arg.value()), wanted);
        }
    };
    ScmpArgCompare::new(arg.index() as u32, operator, arg.value())
}
