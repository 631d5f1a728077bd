" Text at the cursor in Vim 9 (9.0.0185 and newer), from ollm-daemon. Copy to ~/.vim/plugin/ollm.vim.
"
" g:ollm_cmd          ['ollm-daemon']
" g:ollm_daemon_file  instead: the file that `ollm-daemon --tcp PORT` names, with its address and token
" g:ollm_settings     a dictionary, as in ~/.ollm/config.yaml
" g:ollm_filetypes    a list; all of them when left out
"
" g:ollm_keys         #{accept: '<Tab>', word: '<C-l>', next: '<C-b>', dismiss: '<C-]>'}
"
" No other plugin is needed, and one for another language server is not disturbed.

if exists('g:loaded_ollm') || !has('textprop') || !has('channel') || v:version < 900
  finish
endif
let g:loaded_ollm = 1
let s:channel = v:null
let s:ready = 0
let s:shown = {}
let s:asked = 0

highlight default link OllmOffer Comment
call prop_type_add('ollm', #{highlight: 'OllmOffer'})

function! s:Send(method, params) abort
  call ch_sendexpr(s:channel, #{method: a:method, params: a:params})
endfunction

function! s:Ask(method, params, callback) abort
  return ch_sendexpr(s:channel, #{method: a:method, params: a:params}, #{callback: a:callback}).id
endfunction

function! s:Connect() abort
  let options = #{mode: 'lsp', waittime: 2000, callback: function('s:OnMessage'), close_cb: function('s:OnClose')}
  let hello = #{userSettings: get(g:, 'ollm_settings', {})}
  if exists('g:ollm_daemon_file')
    if !filereadable(expand(g:ollm_daemon_file))
      return
    endif
    let daemon = json_decode(join(readfile(expand(g:ollm_daemon_file)), "\n"))
    let hello.token = daemon.token
    let s:channel = ch_open(daemon.host .. ':' .. daemon.port, options)
  else
    let job = job_start(get(g:, 'ollm_cmd', ['ollm-daemon']),
          \ #{in_mode: 'lsp', out_mode: 'lsp', err_io: 'null', noblock: 1,
          \   out_cb: options.callback, close_cb: options.close_cb})
    let s:channel = job_getchannel(job)
  endif
  if ch_status(s:channel) !=# 'open'
    return
  endif
  call s:Ask('initialize', #{
        \ processId: getpid(),
        \ rootUri: s:Uri(getcwd()),
        \ capabilities: #{general: #{positionEncodings: ['utf-8']}},
        \ initializationOptions: hello,
        \ }, function('s:OnInitialized'))
endfunction

function! s:OnInitialized(channel, answer) abort
  if !has_key(a:answer, 'result')
    echomsg 'ollm: ' .. a:answer.error.message
    return
  endif
  call s:Send('initialized', {})
  let s:ready = 1
  if mode() ==# 'i'
    call OllmAsk(2)
  endif
endfunction

function! s:OnMessage(channel, message) abort
  if get(a:message, 'method', '') ==# 'ollm/completion/didChange'
    echomsg 'ollm: ' .. get(a:message.params, 'message', a:message.params.state)
  endif
endfunction

function! s:OnClose(channel) abort
  let s:ready = 0
  let s:channel = v:null
endfunction

function! s:Uri(path) abort
  let bytes = map(range(len(a:path)), {_, at -> a:path[at]})
  return 'file://' .. join(map(bytes, {_, byte ->
        \ byte =~# '[A-Za-z0-9/._~-]' ? byte : printf('%%%02X', char2nr(byte))}), '')
endfunction

function! s:Text() abort
  let eol = &fileformat ==# 'dos' ? "\r\n" : "\n"
  return join(getline(1, '$'), eol) .. eol
endfunction

" Tells the daemon of the buffer as it is now.
function! s:Sync() abort
  if get(b:, 'ollm_channel', '') !=# string(s:channel)
    let b:ollm_channel = string(s:channel)
    let b:ollm_uri = expand('%') ==# '' ? 'untitled:' .. bufnr() : s:Uri(expand('%:p'))
    call s:Send('textDocument/didOpen', #{textDocument:
          \ #{uri: b:ollm_uri, languageId: &filetype, version: b:changedtick, text: s:Text()}})
  elseif b:ollm_tick != b:changedtick
    call s:Send('textDocument/didChange', #{
          \ textDocument: #{uri: b:ollm_uri, version: b:changedtick}, contentChanges: [#{text: s:Text()}]})
  endif
  let b:ollm_tick = b:changedtick
endfunction

function! s:Close(buffer) abort
  let uri = getbufvar(a:buffer, 'ollm_uri', '')
  if s:ready && uri !=# ''
    call s:Send('textDocument/didClose', #{textDocument: #{uri: uri}})
    call setbufvar(a:buffer, 'ollm_channel', '')
  endif
endfunction

function! OllmShown() abort
  return !empty(s:shown)
endfunction

" Takes the offer off the screen, and stops the request that runs.
function! OllmClear() abort
  if s:asked
    call s:Send('$/cancelRequest', #{id: s:asked})
    let s:asked = 0
  endif
  if OllmShown()
    call prop_remove(#{type: 'ollm', bufnr: s:shown.buffer, all: 1})
    let s:shown = {}
  endif
endfunction

" Asks for text at the cursor; kind 2 is by itself, 1 is by the user.
function! OllmAsk(kind) abort
  if s:ready
    call OllmClear()
  endif
  if &buftype !=# '' || index(get(g:, 'ollm_filetypes', [&filetype]), &filetype) < 0
    return
  endif
  if s:channel is v:null
    call s:Connect()
  endif
  if !s:ready
    return
  endif
  call s:Sync()
  let place = #{buffer: bufnr(), tick: b:changedtick, line: line('.'), column: col('.'), kind: a:kind}
  let s:asked = s:Ask('textDocument/inlineCompletion', #{
        \ textDocument: #{uri: b:ollm_uri},
        \ position: #{line: place.line - 1, character: place.column - 1},
        \ context: #{triggerKind: a:kind},
        \ }, function('s:OnOffers', [place]))
endfunction

function! s:OnOffers(place, channel, answer) abort
  if get(a:answer, 'id', 0) != s:asked
    return
  endif
  let s:asked = 0
  let items = has_key(a:answer, 'result') ? a:answer.result.items : []
  if empty(items) || mode() !=# 'i' || bufnr() != a:place.buffer || b:changedtick != a:place.tick
        \ || [line('.'), col('.')] != [a:place.line, a:place.column]
    return
  endif
  let s:shown = extend(#{items: items, index: 0}, a:place)
  call s:Draw()
endfunction

function! s:Lines() abort
  return split(substitute(s:shown.items[s:shown.index].insertText, "\r", '', 'g'), "\n", 1)
endfunction

function! s:Draw() abort
  call prop_remove(#{type: 'ollm', bufnr: s:shown.buffer, all: 1})
  let lines = map(s:Lines(), {_, line -> substitute(line, "\t", repeat(' ', &tabstop), 'g')})
  if lines[0] !=# ''
    call prop_add(s:shown.line, s:shown.column, #{type: 'ollm', text: lines[0]})
  endif
  for line in lines[1:]
    call prop_add(s:shown.line, 0, #{type: 'ollm', text: line ==# '' ? ' ' : line, text_align: 'below'})
  endfor
endfunction

function! s:Insert(lines) abort
  let text = getline(s:shown.line)
  let [before, behind] = [strpart(text, 0, s:shown.column - 1), strpart(text, s:shown.column - 1)]
  let lines = copy(a:lines)
  let lines[0] = before .. lines[0]
  let column = len(lines[-1]) + 1
  let lines[-1] ..= behind
  let line = s:shown.line
  let &undolevels = &undolevels
  call setline(line, lines[0])
  call append(line, lines[1:])
  call cursor(line + len(lines) - 1, column)
endfunction

function! OllmAccept() abort
  let command = s:shown.items[s:shown.index].command
  call s:Insert(s:Lines())
  call OllmClear()
  call s:Ask('workspace/executeCommand', #{command: command.command, arguments: command.arguments}, {_, answer -> 0})
endfunction

function! OllmWord() abort
  let word = matchstr(join(s:Lines(), "\n"), '^\_s*\%(\w\+\|[^[:alnum:]_[:space:]]\+\)\?')
  call s:Insert(split(word, "\n", 1))
  call OllmClear()
  call s:Send('ollm/completion/feedback', #{event: 'partiallyAccepted', characters: strchars(word)})
endfunction

" Shows another offer; asks for several if there is only the one that came by itself.
function! OllmNext() abort
  if !OllmShown() || s:shown.kind == 2
    return OllmAsk(1)
  endif
  let s:shown.index = (s:shown.index + 1) % len(s:shown.items)
  call s:Draw()
endfunction

function! OllmDismiss() abort
  call OllmClear()
  call s:Send('ollm/completion/feedback', #{event: 'rejected'})
endfunction

augroup ollm
  autocmd!
  autocmd InsertEnter,TextChangedI * call OllmAsk(2)
  autocmd CursorMovedI * if OllmShown() && [line('.'), col('.')] != [s:shown.line, s:shown.column] | call OllmClear() | endif
  autocmd InsertLeave,BufLeave * if s:ready | call OllmClear() | endif
  autocmd BufUnload * call s:Close(str2nr(expand('<abuf>')))
augroup END

function! s:Map(name, key) abort
  let call = "\"\\<Cmd>call Ollm" .. a:name .. "()\\<CR>\""
  let typed = '"' .. substitute(a:key, '<', '\\<', 'g') .. '"'
  execute 'inoremap <expr>' a:key a:name ==# 'Next' ? call : 'OllmShown() ? ' .. call .. ' : ' .. typed
endfunction

let s:keys = extend(#{accept: '<Tab>', word: '<C-l>', next: '<C-b>', dismiss: '<C-]>'}, get(g:, 'ollm_keys', {}))
for [s:name, s:key] in items(s:keys)
  call s:Map(toupper(s:name[0]) .. s:name[1:], s:key)
endfor
