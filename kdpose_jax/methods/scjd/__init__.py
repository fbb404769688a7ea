"""SCJD: a student on sparse keyframes learns from a dense teacher."""
