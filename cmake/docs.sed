# For Doxygen: a comment behind code documents it. Not in directives, nor where the code itself has // or a string.
/^ *#/b
s@^([^/"]*[^/" ]) +// @\1  ///< @
