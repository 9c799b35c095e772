//! The domains as the rules see them.

use super::domain::Domain;
use super::domain_table::{DomainEntry, DomainTable};
use super::published::Published;
use super::roles::RoleState;
use super::rules::{self, DomainView, Link, Need};
use crate::topology::MAX_DOMAINS;
use platform::clock::monotonic_ns;

/// Calls `ask` with a view of each domain. On the failover path: allocates nothing, and reads the
/// status register of each NIC that is in use and of no other.
pub(super) fn with_views<T>(
    domains: &[Domain],
    entries: &[DomainEntry],
    ask: impl FnOnce(&[DomainView]) -> T,
) -> T {
    let now_ns = monotonic_ns();
    let mut views = [DomainView::NOBODY; MAX_DOMAINS];
    for ((view, domain), entry) in views.iter_mut().zip(domains).zip(entries) {
        *view = DomainView {
            state: entry.role(),
            link: link(domain, entry.role()),
            held_down: entry.link.held_until_ns(now_ns).is_some(),
            proof: entry.standing.proof,
            aside: entry.is_aside(),
        };
    }
    ask(&views[..entries.len()])
}

/// The domain that takes over from one with this need.
pub(super) fn successor(domains: &[Domain], entries: &[DomainEntry], need: Need) -> Option<usize> {
    with_views(domains, entries, |views| rules::successor(views, need))
}

/// A view of each domain now. Takes no lock.
pub(super) fn published_views(domains: &[Domain], table: &DomainTable) -> Vec<DomainView> {
    let now_ns = monotonic_ns();
    let view = |(domain, published): (&Domain, Published)| DomainView {
        state: published.role,
        link: link(domain, published.role),
        held_down: now_ns < published.held_until_ns,
        proof: published.proof,
        aside: published.aside,
    };
    domains.iter().zip(table.all_published()).map(view).collect()
}

fn link(domain: &Domain, role: RoleState) -> Link {
    match role {
        RoleState::Active | RoleState::Standby => {
            if domain.link_is_up() {
                Link::Up
            } else {
                Link::Down
            }
        }
        // A NIC that is being reset must not be touched.
        RoleState::Failed | RoleState::Restarting | RoleState::Quarantined => Link::Unknown,
    }
}
