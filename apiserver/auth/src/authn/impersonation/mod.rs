//! Impersonation: acting as another user by request headers, as far as it is granted.

mod modes;

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::Status;

use crate::authorize::{Attributes, Authorizer};
use crate::objects::Objects;
use crate::user::UserInfo;
use modes::Mode;

pub const USER_HEADER: &str = "impersonate-user";
pub const GROUP_HEADER: &str = "impersonate-group";
pub const UID_HEADER: &str = "impersonate-uid";
pub const EXTRA_HEADER_PREFIX: &str = "impersonate-extra-";

/// Whom the request wants to act as, as its headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub user: String,
    pub groups: Vec<String>,
    pub uid: String,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    /// From headers, names in lower case. `None` when there is no impersonation; a 400 when no user is named.
    pub fn from_headers<'h>(headers: impl Iterator<Item = (&'h str, &'h str)>) -> Result<Option<Self>, Status> {
        let mut wanted = Self::default();
        let mut any = false;
        for (name, value) in headers.filter(|(name, _)| name.starts_with("impersonate-")) {
            match name {
                USER_HEADER if wanted.user.is_empty() => wanted.user = value.to_owned(),
                UID_HEADER if wanted.uid.is_empty() => wanted.uid = value.to_owned(),
                GROUP_HEADER => wanted.groups.push(value.to_owned()),
                _ => {
                    let Some(key) = name.strip_prefix(EXTRA_HEADER_PREFIX) else { continue };
                    wanted.extra.entry(percent_decoded(key).into_owned()).or_default().push(value.to_owned());
                }
            }
            any = true;
        }
        if any && wanted.user.is_empty() && wanted != Self::default() {
            let shown = wanted.shown();
            return Err(Status::bad_request(format!("requested {shown} without impersonating a user name")));
        }
        Ok((!wanted.user.is_empty()).then_some(wanted))
    }

    /// As upstream's message shows it.
    fn shown(&self) -> String {
        let texts = |values: &[String]| {
            if values.is_empty() {
                return "[]string(nil)".to_owned();
            }
            format!("[]string{{{}}}", values.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>().join(", "))
        };
        let extra = if self.extra.is_empty() {
            "map[string][]string(nil)".to_owned()
        } else {
            let entries: Vec<String> = self.extra.iter().map(|(k, v)| format!("{k:?}:{}", texts(v))).collect();
            format!("map[string][]string{{{}}}", entries.join(", "))
        };
        let groups = texts(&self.groups);
        format!("&user.DefaultInfo{{Name:\"\", UID:{:?}, Groups:{groups}, Extra:{extra}}}", self.uid)
    }
}

/// A header's key with %-escapes resolved; as it stands when they are malformed.
fn percent_decoded(key: &str) -> Cow<'_, str> {
    if !key.contains('%') {
        return Cow::Borrowed(key);
    }
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let Some(byte) = digits.and_then(|d| u8::from_str_radix(d, 16).ok()) else { return Cow::Borrowed(key) };
        out.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(out).map_or(Cow::Borrowed(key), Cow::Owned)
}

/// The user to act as for a request, when its user may impersonate each part of it.
///
/// The constrained modes (KEP-5284), which grant impersonation for some requests only, are tried before the old
/// unconditional one; the first refusal is the one to tell. `request` is what is asked for, by the user who asks.
pub fn impersonate(
    request: &Attributes<'_>,
    wanted: &Wanted,
    authorizer: &dyn Authorizer,
    objects: &dyn Objects,
) -> Result<UserInfo, Status> {
    let mut first = None;
    for mode in Mode::ALL.into_iter().filter(|mode| mode.applies(wanted, request.user)) {
        match mode.check(request, wanted, authorizer, objects) {
            Ok(user) => return Ok(user),
            Err(status) => drop(first.get_or_insert(status)),
        }
    }
    Err(first.unwrap_or_else(Status::unauthorized))
}
