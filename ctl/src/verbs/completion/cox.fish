# Completion of cox's command lines in fish: cox completion fish | source

# What cox answers for the words that are written, the last of them unfinished.
function __cox_answer
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete $words[2..-1] 2>/dev/null
end

function __cox_complete
    # Of --flag=value fish completes the whole word.
    set -l flag (string match -r '^--[^=]+=' -- (commandline -ct))
    for line in (__cox_answer)
        string match -qr '^:\d+$' -- $line; or printf '%s\n' "$flag$line"
    end
end

# Nothing is known, and files may be meant.
function __cox_wants_files
    set -l answer (__cox_answer)
    test (count $answer) -eq 1; and string match -qr '^:[02]$' -- $answer[1]
end

complete -c cox -f -a '(__cox_complete)'
complete -c cox -n __cox_wants_files -F
