" llama.vim (Vim 9.1 or newer, Neovim) on `codegen serve http`. Start the server with
"   codegen serve http --token-file ~/.cache/codegen/token
" and put this in your vimrc, before the plug-in is loaded.

let g:llama_config = {
    \ 'endpoint_fim': 'http://127.0.0.1:8012/infill',
    \ 'api_key': trim(join(readfile(expand('~/.cache/codegen/token')), '')),
    \ }
