//! The bar of an object, once it is known how much of it there is.

use std::cell::{Cell, RefCell};

use crate::progress::{Bar, Reporter, Unit};

/// How far an object is, as it is shown.
pub(super) struct Shown<'a> {
    reporter: &'a dyn Reporter,
    title: &'a str,
    bar: RefCell<Option<Box<dyn Bar>>>,
    at: Cell<u64>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(reporter: &'a dyn Reporter, title: &'a str) -> Self {
        Self {
            reporter,
            title,
            bar: RefCell::default(),
            at: Cell::default(),
        }
    }

    /// It goes on, or begins anew, at this byte.
    pub(super) fn at(&self, at: u64, size: Option<u64>) {
        let mut bar = self.bar.borrow_mut();
        if bar.is_none() || at < self.at.get() {
            // First the old one goes away: bars do not go back.
            *bar = None;
            *bar = Some(self.reporter.bar(self.title, size, Unit::Bytes));
            self.at.set(0);
        }
        drop(bar);
        self.advance(at - self.at.get());
    }

    pub(super) fn advance(&self, by: u64) {
        self.at.set(self.at.get() + by);
        if let Some(bar) = &*self.bar.borrow() {
            bar.advance(by);
        }
    }
}
