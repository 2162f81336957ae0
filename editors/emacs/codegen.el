;;; codegen.el --- Suggestions by `codegen serve lsp' through Eglot  -*- lexical-binding: t; -*-

;; Emacs 29 or newer. Put this file on your load-path and (require 'codegen) into your init file.
;; M-x codegen-complete shows a suggestion behind the cursor: TAB takes it, M-n shows the next one,
;; any other key drops it. With `codegen-automatic' it comes by itself after a pause.

;;; Code:

(require 'eglot)

(defgroup codegen nil "Suggestions from a local model." :group 'tools)

(defcustom codegen-command '("codegen" "serve" "lsp")
  "The command that starts the language server."
  :type '(repeat string))

(defcustom codegen-automatic nil
  "Whether suggestions come by themselves after `codegen-pause' seconds."
  :type 'boolean)

(defcustom codegen-pause 0.3
  "Seconds without a key before a suggestion comes by itself."
  :type 'number)

(defvar-local codegen--overlay nil)
(defvar-local codegen--items nil)
(defvar codegen--timer nil)

(defvar codegen-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") #'codegen-accept)
    (define-key map (kbd "<tab>") #'codegen-accept)
    (define-key map (kbd "M-n") #'codegen-next)
    map)
  "Keys while a suggestion is shown.")

(defun codegen-request (&optional automatic)
  "Ask the server for suggestions at point; return them as a list of strings."
  (when-let* ((server (eglot-current-server)))
    (let* ((context (list :triggerKind (if automatic 2 1)))
           (params (append (eglot--TextDocumentPositionParams) (list :context context)))
           (answer (progn
                     (eglot--signal-textDocument/didChange)
                     (jsonrpc-request server :textDocument/inlineCompletion params)))
           (items (if (vectorp answer) answer (plist-get answer :items))))
      (mapcar (lambda (item) (plist-get item :insertText)) items))))

(defun codegen-complete (&optional automatic)
  "Show a suggestion behind the cursor."
  (interactive)
  (codegen-clear)
  (setq codegen--items (codegen-request automatic))
  (codegen--show)
  (when codegen--items
    (set-transient-map codegen-map #'codegen--keep-p #'codegen-clear)))

(defun codegen--keep-p ()
  "Whether the last key was one of the suggestion's own."
  (eq this-command 'codegen-next))

(defun codegen--show ()
  "Show the first of the suggestions."
  (when codegen--items
    (let ((text (propertize (car codegen--items) 'face 'shadow 'cursor t)))
      (setq codegen--overlay (make-overlay (point) (point)))
      (overlay-put codegen--overlay 'after-string text))))

(defun codegen-clear ()
  "Remove the suggestion from the screen."
  (when codegen--overlay (delete-overlay codegen--overlay))
  (setq codegen--overlay nil))

(defun codegen-accept ()
  "Insert the suggestion."
  (interactive)
  (let ((text (car codegen--items)))
    (codegen-clear)
    (setq codegen--items nil)
    (when text (insert text))))

(defun codegen-next ()
  "Show the next suggestion."
  (interactive)
  (codegen-clear)
  (setq codegen--items (append (cdr codegen--items) (list (car codegen--items))))
  (codegen--show))

(defun codegen--pause ()
  "Show a suggestion if Eglot manages this buffer."
  (when (and codegen-automatic (eglot-current-server) (not (minibufferp))
             (eq last-command 'self-insert-command))
    (codegen-complete t)))

(add-to-list 'eglot-server-programs `((python-mode python-ts-mode) . ,codegen-command))
(setq codegen--timer (run-with-idle-timer codegen-pause t #'codegen--pause))

(provide 'codegen)
;;; codegen.el ends here
