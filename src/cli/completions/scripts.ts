/**
 * The completion scripts. Each hands the words of the command line to `aicortex __complete`, which prints one
 * completion in each line, with what it is after a tab; `:files` means the names of files.
 */

/** Readline splits words at `:` and `=`, which names of models have: they are joined, and what is there is left out. */
const bash = `# Completions of aicortex for bash.
_aicortex() {
  local line=$COMP_LINE words=() word i current prefix=
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if ((i == 0)) || [[ $line == [[:space:]]* ]]; then
      words+=("$word")
    else
      words[\${#words[@]}-1]+=$word
    fi
    line=\${line#"\${line%%[![:space:]]*}"}
    line=\${line#"$word"}
  done
  current=\${words[\${#words[@]}-1]}
  for word in : =; do
    if [[ $COMP_WORDBREAKS == *"$word"* && $current == *"$word"* ]]; then
      line=\${current%"\${current##*"$word"}"}
      ((\${#line} > \${#prefix})) && prefix=$line
    fi
  done
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      compopt -o default 2>/dev/null
    else
      line=\${line%%$'\\t'*}
      COMPREPLY+=("\${line#"$prefix"}")
    fi
  done < <("\${words[0]}" __complete "\${words[@]:1}" 2>/dev/null)
}
complete -F _aicortex aicortex
`

const zsh = `#compdef aicortex
# Completions of aicortex for zsh.
_aicortex() {
  local line value
  local -a lines entries
  lines=("\${(@f)$("\${(@Q)words[1]}" __complete "\${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
  for line in $lines; do
    if [[ $line == :files ]]; then
      _files
    else
      value=\${line%%$'\\t'*}
      entries+=("\${value//:/\\\\:}:\${line#*$'\\t'}")
    fi
  done
  (( \${#entries} )) && _describe -V aicortex entries
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _aicortex "$@"
else
  compdef _aicortex aicortex
fi
`

const fish = `# Completions of aicortex for fish.
function __aicortex_complete
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  for line in ($words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    if test "$line" = ":files"
      __fish_complete_path "$current"
    else
      echo $line
    end
  end
end
complete -c aicortex -f -a "(__aicortex_complete)"
`

/** The script of each shell. */
export const scripts: { readonly [shell: string]: string } = { bash, zsh, fish }
