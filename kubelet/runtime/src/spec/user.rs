//! Who a container's process is: numbers for the names in the image and in the kubelet's wishes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::cri::SecurityContext;
use crate::syscall::fs::{open_in_root, xattr};

/// Longest /etc/passwd or /etc/group that is read.
const FILE_LIMIT: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All groups, the first one too.
    pub groups: Vec<u32>,
    pub home: String,
}

/// Files of an image as its containers see them.
pub struct LayerFiles<'a> {
    /// Topmost first.
    pub layers: &'a [PathBuf],
}

impl LayerFiles<'_> {
    /// The content of `directory/name`; empty when it is in no layer, or hidden.
    pub fn read(&self, directory: &str, name: &str) -> String {
        for layer in self.layers {
            let path = Path::new(directory).join(name);
            let opened =
                File::open(layer).and_then(|root| open_in_root(&root, &path, libc::O_RDONLY | libc::O_NONBLOCK, 0));
            if let Ok(fd) = opened {
                let file = File::from(fd);
                let mut text = String::new();
                let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
                // What is no text names nobody.
                let read = regular && file.take(FILE_LIMIT).read_to_string(&mut text).is_ok();
                return if read { text } else { String::new() };
            }
            let hidden = std::fs::symlink_metadata(layer.join(&path)).is_ok();
            let opaque = xattr(&layer.join(directory), c"trusted.overlay.opaque").is_some_and(|mark| mark == b"y");
            if hidden || opaque {
                break;
            }
        }
        String::new()
    }
}

/// `image_user` is `USER[:GROUP]` by name or number, as in the image; the security context overrides it.
pub fn resolve(security: &SecurityContext, image_user: &str, passwd: &str, group: &str) -> Result<Identity, String> {
    let wanted = match (security.run_as_user, security.run_as_username.as_str()) {
        (Some(uid), _) => uid.to_string(),
        (None, "") => image_user.split(':').next().unwrap_or("").to_owned(),
        (None, name) => name.to_owned(),
    };
    let user = find_user(&wanted, passwd)?;
    let image_group = image_user.split_once(':').map(|(_, group)| group).filter(|_| security.run_as_user.is_none());
    let gid = match (security.run_as_group, image_group) {
        (Some(gid), _) => u32::try_from(gid).map_err(|_| format!("invalid group id {gid}"))?,
        (None, Some(name)) => find_group(name, group)?,
        (None, None) => user.gid,
    };
    let mut groups = vec![gid];
    groups.extend(groups_of(&user.name, group));
    for extra in &security.supplemental_groups {
        groups.push(u32::try_from(*extra).map_err(|_| format!("invalid group id {extra}"))?);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|gid| seen.insert(*gid));
    Ok(Identity { uid: user.uid, gid, groups, home: user.home })
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn find_user(wanted: &str, passwd: &str) -> Result<User, String> {
    let number = if wanted.is_empty() { Some(0) } else { wanted.parse::<u32>().ok() };
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { continue };
        let (Ok(uid), Ok(gid)) = (uid.parse::<u32>(), gid.parse::<u32>()) else { continue };
        if *name == wanted || number == Some(uid) {
            let home = if home.is_empty() { "/" } else { home };
            return Ok(User { name: (*name).to_owned(), uid, gid, home: home.to_owned() });
        }
    }
    let uid = number.ok_or_else(|| format!("unable to find user {wanted}: no matching entries in passwd file"))?;
    let home = if uid == 0 { "/root" } else { "/" };
    Ok(User { name: String::new(), uid, gid: 0, home: home.to_owned() })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, String> {
    for line in group.lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(wanted)
            && let Some(Ok(gid)) = fields.nth(1).map(str::parse)
        {
            return Ok(gid);
        }
    }
    wanted.parse().map_err(|_| format!("unable to find group {wanted}: no matching entries in group file"))
}

/// Groups that list the user as a member.
fn groups_of<'a>(name: &'a str, group: &'a str) -> impl Iterator<Item = u32> + 'a {
    group.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members, ..] = fields.as_slice() else { return None };
        let member = !name.is_empty() && members.split(',').any(|member| member == name);
        if member { gid.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100:App:/home/app:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,app\n";

    fn identity(security: &SecurityContext, image: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        resolve(security, image, PASSWD, GROUP).map(|i| (i.uid, i.gid, i.groups, i.home))
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let none = SecurityContext::default();
        let home = |home: &str| home.to_owned();
        assert_eq!(identity(&none, "").unwrap(), (0, 0, vec![0, 10], home("/root")));
        assert_eq!(identity(&none, "app").unwrap(), (1000, 100, vec![100, 10], home("/home/app")));
        assert_eq!(identity(&none, "1000:wheel").unwrap(), (1000, 10, vec![10], home("/home/app")));
        assert_eq!(identity(&none, "4242").unwrap(), (4242, 0, vec![0], home("/")));
        assert!(identity(&none, "nobody").unwrap_err().contains("unable to find user nobody"));
        assert!(identity(&none, "app:ghosts").unwrap_err().contains("unable to find group ghosts"));
    }

    #[test]
    fn the_security_context_comes_first() {
        let security = SecurityContext {
            run_as_user: Some(5),
            run_as_group: Some(7),
            supplemental_groups: vec![8, 7],
            ..SecurityContext::default()
        };
        assert_eq!(identity(&security, "app:users").unwrap(), (5, 7, vec![7, 8], "/".to_owned()));
        let negative = SecurityContext { run_as_group: Some(-1), ..SecurityContext::default() };
        assert!(identity(&negative, "").is_err());
    }
}
