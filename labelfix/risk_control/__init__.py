"""What can be promised of labels that nobody verified: numbers in, numbers out (docs/promises.md derives it).

============  =================================================================================
`boundary`    how many of the verified rows may be wrong, at every look: the exact test
`promise`     which part of a frozen list is promised, given the answers: the decision
`plan`        how large a list to freeze, and the chance of a promise
============  =================================================================================
"""
