//! What must hold in every state, and how every state must be able to end.

use super::actions::Act;
use super::world::{Truth, World};
use crate::ledger::{Book, Ledger, Scope};

/// The most units that a holder may have unspent of so small a quota: the design's bound.
const HELD: u64 = 2;

impl Truth {
    fn net(&self) -> u64 {
        self.admitted.saturating_sub(self.refunded)
    }
}

impl World {
    pub(super) fn obeys(&self) -> Result<(), String> {
        let books = self.ledger.books();
        for (start_s, truth) in &self.rest.truths {
            let book = books.iter().find(|book| book.start_s == *start_s);
            let (charged, granted) = book.map_or((0, 0), |book| (book.charged, book.granted));
            let net = truth.net();
            if net > charged {
                return Err(format!("{net} were admitted, and {charged} are charged"));
            }
            let lowered = self.setup.lowered.saturating_add_signed(granted).max(truth.at_edit);
            let allowed = if self.rest.acknowledged {
                lowered
            } else {
                self.setup.limit.saturating_add_signed(granted)
            };
            if net > allowed {
                return Err(format!("{net} were admitted of {allowed}"));
            }
        }
        for book in &books {
            for (holder, leased, _) in &book.shares {
                let unspent = self.unspent(book, *holder, *leased)?;
                if unspent > HELD {
                    return Err(format!("a crash would waste {unspent} units"));
                }
            }
        }
        Ok(())
    }

    fn unspent(
        &self,
        book: &Book,
        holder: crate::ledger::Holder,
        leased: u64,
    ) -> Result<u64, String> {
        let spent = self
            .rest
            .truths
            .get(&book.start_s)
            .and_then(|truth| truth.spent.get(&holder))
            .copied()
            .unwrap_or_default();
        leased
            .checked_sub(spent)
            .ok_or_else(|| format!("{spent} were admitted of a lease of {leased}"))
    }

    /// After a clean stop nothing is leased that was not spent.
    pub(super) fn stopped_clean(&self, place: usize) -> Result<(), String> {
        let post = &self.rest.posts[place];
        for book in self.ledger.books() {
            for (holder, leased, _) in
                book.shares.iter().filter(|(holder, ..)| *holder == post.holder)
            {
                // What the ledger did and never answered has no number here.
                let unspent = self.unspent(&book, *holder, *leased)?;
                if unspent > 0 && post.named {
                    return Err(format!("a clean stop wastes {unspent} units"));
                }
            }
        }
        Ok(())
    }

    /// From here on nothing more goes wrong: every check is decided, the last unit is given out,
    /// and the books are right to the unit.
    pub(super) fn ends_well(&mut self) -> Result<(), String> {
        while !self.rest.orphans.is_empty() {
            self.act(Act::Orphan)?;
        }
        let places = 0..self.engines.len();
        for place in places.clone() {
            if self.rest.lower && !self.rest.posts[place].edited {
                self.edit(place);
            }
            self.quiet(place)?;
        }
        places.clone().try_for_each(|place| self.spend(place))?;
        if places.len() == 1 && self.rest.unheard.is_empty() {
            self.nothing_left()?;
        }
        // What others gave back, a holder learns of when it starts, or asks: one that starts when
        // all have stopped knows all.
        places.clone().try_for_each(|place| self.stop(place))?;
        self.stop(0)?;
        self.spend(0)?;
        self.nothing_left()?;
        places.clone().try_for_each(|place| self.stop(place))?;
        self.obeys()?;
        for book in self.ledger.books() {
            let net = self.rest.truths.get(&book.start_s).map_or(0, Truth::net);
            let lost = self.lost(&book)?;
            if book.charged != net + lost {
                return Err(format!(
                    "{} units are charged, {net} were admitted and {lost} are lost",
                    book.charged
                ));
            }
        }
        let rows =
            self.ledger.usage(&Scope::All, 0, u64::MAX / 2).map_err(|wrong| wrong.to_string())?;
        for (row, book) in rows.iter().zip(self.ledger.books()) {
            // A dead holder is known to have spent what it told, and so less than it did.
            if row.lost + row.held < self.lost(&book)? {
                return Err("units are lost that the ledger does not show as lost".to_owned());
            }
        }
        Ok(())
    }

    /// Units that those who are gone never spent.
    fn lost(&self, book: &Book) -> Result<u64, String> {
        let gone = book.shares.iter().filter(|(holder, ..)| self.rest.gone.contains(holder));
        gone.map(|(holder, leased, _)| self.unspent(book, *holder, *leased)).sum()
    }

    /// Checks until one is refused. Each is decided.
    fn spend(&mut self, place: usize) -> Result<(), String> {
        for _ in 0..20 {
            let mut decided = None;
            for _ in 0..6 {
                decided = self.check(place);
                self.quiet(place)?;
                if decided.is_some() {
                    break;
                }
            }
            match decided {
                None => return Err("a check is never decided".to_owned()),
                Some(true) => self.obeys()?,
                Some(false) => return Ok(()),
            }
        }
        Err("checks are admitted without an end".to_owned())
    }

    fn nothing_left(&self) -> Result<(), String> {
        let start_s = self.start_s();
        let book = self.ledger.books().into_iter().find(|book| book.start_s == start_s);
        let Some(book) = book else {
            return Err("the ledger knows nothing of the running period".to_owned());
        };
        let limit = if self.rest.lower { self.setup.lowered } else { self.setup.limit };
        let net = self.rest.truths.get(&start_s).map_or(0, Truth::net);
        let (lost, allowed) = (self.lost(&book)?, limit.saturating_add_signed(book.granted));
        if net + lost < allowed {
            return Err(format!(
                "refused, although {net} were admitted of {allowed}, and {lost} are lost"
            ));
        }
        Ok(())
    }
}
