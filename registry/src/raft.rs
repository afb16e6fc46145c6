//! Agreement: the only module that names openraft.
