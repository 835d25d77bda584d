"""The results for PACS and viewers, out of the catalogue.

`identifiers`  what a C-FIND, C-GET or C-MOVE identifier asks for, and whether it may be asked (PS3.4 C.4)
`responses`    one match of the catalogue as a C-FIND response
`scp`          the Query/Retrieve SCP: who may ask, what is answered, what is sent where
"""
