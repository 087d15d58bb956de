//! A peer, a file, a pipe or a signal that does not do what it should.
