//! Grouping of so few rows that one small table holds their groups: nothing is carried anywhere.

use super::ids::Ids;
use super::index::to_u32;
use super::partition::Partition;
use crate::error::Error;
use crate::pool::{CHECK_EVERY, Cancel};

/// Places of the table at first; a power of two.
const PLACES: usize = 1 << 10;
/// The groups of a table that stays in the second-level cache.
const MANY: usize = 1 << 14;

/// Groups all rows; None if there are so many groups that the table leaves the cache.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn group<I: Ids>(ids: &I, cancel: &Cancel) -> Result<Option<Partition>, Error> {
    if let Some((least, codes)) = ids.codes() {
        let mut groups = vec![u32::MAX; codes];
        return numbered(ids.len(), cancel, |row, next| {
            let group = &mut groups[ids.code(row, least)];
            *group = next.min(*group);
            *group
        });
    }
    let mut table = Table {
        places: vec![0; PLACES],
        keys: Vec::new(),
        firsts: Vec::new(),
    };
    numbered(ids.len(), cancel, |row, _| table.find_or_add(ids, row))
}

/// Sorts `n` rows by the group that `group_of` gives each, which is the next one for a new group.
fn numbered(
    n: usize,
    cancel: &Cancel,
    mut group_of: impl FnMut(usize, u32) -> u32,
) -> Result<Option<Partition>, Error> {
    let (mut firsts, mut ends) = (Vec::new(), Vec::<u32>::new());
    // The group of each row, and then its place when they are sorted by group.
    let mut places = Vec::with_capacity(n);
    for row in 0..n {
        if row.is_multiple_of(CHECK_EVERY) {
            cancel.check()?;
        }
        let next = ends.len();
        let group = group_of(row, to_u32(next));
        if group as usize == next {
            if next == MANY {
                return Ok(None);
            }
            firsts.push(to_u32(row));
            ends.push(0);
        }
        ends[group as usize] += 1;
        places.push(group);
    }
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    let mut end = 0;
    for size in &mut ends {
        offsets.push(end);
        (*size, end) = (end, end + *size);
    }
    offsets.push(end);
    for place in &mut places {
        let next = &mut ends[*place as usize];
        *place = *next;
        *next += 1;
    }
    Ok(Some(Partition {
        places,
        offsets,
        firsts,
    }))
}

/// The groups found so far, in open addressing.
struct Table<K> {
    /// One more than the number of the group at each place, 0 for none; a power of two of them, at
    /// most half of which are taken.
    places: Vec<u32>,
    /// The key of each group, and its first row.
    keys: Vec<K>,
    firsts: Vec<u32>,
}

impl<K: Copy + PartialEq> Table<K> {
    #[inline]
    fn find_or_add<I: Ids<Key = K>>(&mut self, ids: &I, row: usize) -> u32 {
        let key = ids.key(row);
        let mut place = self.home(ids.hash(key));
        while let Some(group) = self.places[place].checked_sub(1) {
            let same = || ids.same(self.firsts[group as usize] as usize, row);
            if self.keys[group as usize] == key && (I::is_exact(key) || same()) {
                return group;
            }
            place = (place + 1) & (self.places.len() - 1);
        }
        let group = to_u32(self.keys.len());
        self.keys.push(key);
        self.firsts.push(to_u32(row));
        self.places[place] = group + 1;
        if 2 * self.keys.len() > self.places.len() {
            self.grow(ids);
        }
        group
    }

    /// The first place for a hash: its top bits.
    fn home(&self, hash: u64) -> usize {
        usize::try_from(hash >> (64 - self.places.len().trailing_zeros())).unwrap_or(0)
    }

    fn grow<I: Ids<Key = K>>(&mut self, ids: &I) {
        self.places = vec![0; 4 * self.places.len()];
        for (group, &key) in self.keys.iter().enumerate() {
            let mut place = self.home(ids.hash(key));
            while self.places[place] != 0 {
                place = (place + 1) & (self.places.len() - 1);
            }
            self.places[place] = to_u32(group) + 1;
        }
    }
}
