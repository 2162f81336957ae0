-- Completions by `codegen serve lsp` in Neovim. Put this in your init.lua, or this file on your
-- runtime path as lua/codegen.lua and `require('codegen')` into your init.lua.
--
-- Neovim 0.12 or newer shows ghost text as you type. <Tab> accepts it, <M-]> shows the next
-- suggestion. In Neovim 0.10 and 0.11, <C-x><C-o> lists the suggestions.

local config = {
  name = 'codegen',
  cmd = { 'codegen', 'serve', 'lsp' },
  filetypes = { 'python', 'javascript', 'typescript', 'go', 'rust', 'c', 'cpp', 'lua', 'sh' },
  root_markers = { '.git' },
  settings = { codegen = { maxLines = 12, candidates = 3 } },
  init_options = { certainAnswers = true }, -- shows fast answers, and what replaces those in doubt
  handlers = {
    ['$/codegen/certainAnswer'] = function(_, answer)
      -- Request again: the server answers at once with the suggestion that replaces this one.
      local buffer = vim.uri_to_bufnr(answer.uri)
      if buffer == vim.api.nvim_get_current_buf() and vim.fn.mode() == 'i' then
        vim.api.nvim_exec_autocmds('CursorMovedI', { buffer = buffer })
      end
    end,
    ['$/codegen/status'] = function(_, status)
      vim.g.codegen_status = status.message -- for a status line
      if status.kind == 'Error' or status.kind == 'Warning' then
        vim.notify('codegen: ' .. status.message, vim.log.levels.WARN)
      end
    end,
  },
}

if vim.fn.has('nvim-0.12') == 1 then
  vim.lsp.config('codegen', config)
  vim.lsp.enable('codegen')
  vim.lsp.inline_completion.enable(true)
  vim.keymap.set('i', '<Tab>', function()
    if not vim.lsp.inline_completion.get() then
      return '<Tab>'
    end
  end, { expr = true, desc = 'Accept the suggestion' })
  vim.keymap.set('i', '<M-]>', function()
    vim.lsp.inline_completion.select()
  end, { desc = 'Show the next suggestion' })
else
  config.init_options = nil -- the list is filled once
  vim.api.nvim_create_autocmd('FileType', {
    pattern = config.filetypes,
    callback = function(event)
      config.root_dir = vim.fs.root(event.buf, config.root_markers)
      vim.lsp.start(config)
    end,
  })
end
