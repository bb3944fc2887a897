//! The terminal while `top` has it: entered whole, and given back on every way out.
//! Entry: [`Screen::open`]; dropping it gives the terminal back, and so does the hook for panics.

use std::io;

use ratatui::{DefaultTerminal, Frame};

/// The terminal in raw mode, on its second screen.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When the terminal refuses; it is as it was then.
    pub(super) fn open() -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                // The first error tells more than that of a terminal which was not taken whole.
                drop(ratatui::try_restore());
                Err(error)
            }
        }
    }

    /// Shows what `render` draws; only what is different from before is sent.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(render).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A panic's hook has done it before it printed its message, which must stay readable.
        if !std::thread::panicking() {
            // The terminal may have gone; nobody reads of it then.
            drop(ratatui::try_restore());
        }
    }
}
