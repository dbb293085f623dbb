//! Constitution, critique and revision, preference labels, the judge report
