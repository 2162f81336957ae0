-- Completions by `codegen serve lsp` in Neovim 0.12 or newer. Put this in your init.lua, or this
-- file on your runtime path and `require('codegen')` into your init.lua.
--
-- Ghost text appears as you type. <Tab> accepts it, <M-]> shows the next suggestion.

vim.lsp.config('codegen', {
  cmd = { 'codegen', 'serve', 'lsp' },
  filetypes = { 'python', 'javascript', 'typescript', 'go', 'rust', 'c', 'cpp', 'lua', 'sh' },
  root_markers = { '.git' },
  settings = { codegen = { maxLines = 12, candidates = 3 } },
  handlers = {
    ['$/codegen/status'] = function(_, status)
      vim.g.codegen_status = status.message -- for a status line
      if status.kind == 'Error' or status.kind == 'Warning' then
        vim.notify('codegen: ' .. status.message, vim.log.levels.WARN)
      end
    end,
  },
})
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
