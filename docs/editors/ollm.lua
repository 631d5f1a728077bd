-- Text at the cursor in Neovim 0.11, from ollm-daemon. Copy to ~/.config/nvim/lua/ollm.lua, and call
-- require('ollm').setup() in init.lua. Neovim 0.12 needs none of this: see neovim.md.
local M = {}

M.options = {
  cmd = { 'ollm-daemon' },
  daemon_file = nil, -- instead of cmd: the file that `ollm-daemon --tcp PORT` names, with its address and token
  settings = vim.empty_dict(), -- as in ~/.ollm/config.yaml
  filetypes = nil, -- a list; all of them when left out
  keys = { accept = '<Tab>', word = '<M-Right>', next = '<M-]>', dismiss = '<C-]>' },
}

local INVOKED, AUTOMATIC = 1, 2 -- how an offer was asked for
local space = vim.api.nvim_create_namespace('ollm')
local shown ---@type table? What is on the screen: client, buf, row, col, items, index, kind.
local asked ---@type table? The request that runs: client, id.

local function lines_shown() -- an offer always begins at the cursor
  return vim.split(shown.items[shown.index].insertText:gsub('\r', ''), '\n')
end

local function draw()
  local lines = vim.tbl_map(function(line)
    return { { line:gsub('\t', (' '):rep(vim.bo[shown.buf].tabstop)), 'Comment' } }
  end, lines_shown())
  vim.api.nvim_buf_clear_namespace(shown.buf, space, 0, -1)
  vim.api.nvim_buf_set_extmark(shown.buf, space, shown.row - 1, shown.col, {
    virt_text = table.remove(lines, 1),
    virt_text_pos = 'inline',
    virt_lines = lines,
  })
end

local function insert(lines) -- at the cursor, as a step of its own for undo
  local row, col = shown.row - 1, shown.col
  vim.o.undolevels = vim.o.undolevels
  vim.api.nvim_buf_set_text(shown.buf, row, col, row, col, lines)
  vim.api.nvim_win_set_cursor(0, { row + #lines, #lines[#lines] + (#lines == 1 and col or 0) })
end

--- Takes the offer off the screen, and stops the request that runs.
function M.clear()
  if asked then
    asked.client:cancel_request(asked.id)
  end
  if shown and vim.api.nvim_buf_is_valid(shown.buf) then
    vim.api.nvim_buf_clear_namespace(shown.buf, space, 0, -1)
  end
  asked, shown = nil, nil
end

function M.ask(kind)
  M.clear()
  local buf, tick = vim.api.nvim_get_current_buf(), vim.b.changedtick
  local row, col = unpack(vim.api.nvim_win_get_cursor(0))
  local client = vim.lsp.get_clients({ bufnr = buf, name = 'ollm' })[1]
  if not client then return end
  local params = vim.lsp.util.make_position_params(0, client.offset_encoding)
  params.context = { triggerKind = kind }
  local sent, id
  sent, id = client:request('textDocument/inlineCompletion', params, function(err, result)
    asked = asked and asked.id ~= id and asked or nil
    local is_here = vim.fn.mode() == 'i' and vim.api.nvim_get_current_buf() == buf and vim.b.changedtick == tick
    if is_here and vim.deep_equal(vim.api.nvim_win_get_cursor(0), { row, col }) and not err and #result.items > 0 then
      shown = { client = client, buf = buf, row = row, col = col, items = result.items, index = 1, kind = kind }
      draw()
    end
  end, buf)
  asked = sent and { client = client, id = id } or nil
end

--- Inserts the offer, and runs the command that came with it: so the daemon counts it.
function M.accept()
  local client, command = shown.client, shown.items[shown.index].command
  insert(lines_shown())
  M.clear()
  client:exec_cmd(command)
end

--- Inserts the next word of the offer; the rest is shown again.
function M.word()
  local text = table.concat(lines_shown(), '\n')
  local word = text:match('^%s*[%w_]+') or text:match('^%s*[^%w_%s]+') or text
  insert(vim.split(word, '\n'))
  shown.client:notify('ollm/completion/feedback', { event = 'partiallyAccepted', characters = vim.fn.strchars(word) })
end

--- Shows another offer; asks for several where there is only the one that came by itself.
function M.next()
  if not shown or shown.kind == AUTOMATIC then return M.ask(INVOKED) end
  shown.index = shown.index % #shown.items + 1
  draw()
end

function M.dismiss()
  shown.client:notify('ollm/completion/feedback', { event = 'rejected' })
  M.clear()
end

local function attach(buf)
  local cmd, token = M.options.cmd, nil
  if M.options.daemon_file then
    local daemon = vim.json.decode(table.concat(vim.fn.readfile(vim.fs.normalize(M.options.daemon_file))))
    cmd, token = vim.lsp.rpc.connect(daemon.host, daemon.port), daemon.token
  end
  vim.lsp.start({
    name = 'ollm',
    cmd = cmd,
    root_dir = vim.fs.root(buf, '.git') or vim.fn.getcwd(),
    init_options = { token = token, userSettings = M.options.settings },
    handlers = {
      ['ollm/completion/didChange'] = function(_, change)
        vim.notify('ollm: ' .. (change.message or change.state))
      end,
    },
  }, { bufnr = buf })
end

function M.setup(options)
  M.options = vim.tbl_deep_extend('force', M.options, options or {})
  local group = vim.api.nvim_create_augroup('ollm', {})
  local function on(events, callback)
    vim.api.nvim_create_autocmd(events, { group = group, callback = callback })
  end
  on('FileType', function(event)
    if vim.bo[event.buf].buftype == '' and vim.list_contains(M.options.filetypes or { event.match }, event.match) then
      attach(event.buf)
    end
  end)
  on({ 'InsertEnter', 'TextChangedI', 'LspAttach' }, function(event)
    if event.event == 'InsertEnter' or vim.fn.mode() == 'i' then
      M.ask(AUTOMATIC)
    end
  end)
  on('CursorMovedI', function()
    if shown and not vim.deep_equal(vim.api.nvim_win_get_cursor(0), { shown.row, shown.col }) then
      M.clear()
    end
  end)
  on({ 'InsertLeave', 'BufLeave' }, M.clear)
  for name, key in pairs(M.options.keys) do
    vim.keymap.set('i', key, function()
      return (shown or name == 'next') and ("<Cmd>lua require('ollm').%s()<CR>"):format(name) or key
    end, { expr = true, desc = 'ollm: ' .. name })
  end
end

return M
