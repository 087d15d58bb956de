//! What others wrote, on its way to a terminal, a log or a configuration.
