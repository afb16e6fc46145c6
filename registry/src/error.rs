//! Why a request failed, and what its caller may do about it.
