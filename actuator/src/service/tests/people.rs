//! What people ask: approve, reject, roll back, pause and resume.
