;;; ollm.el --- Text at the cursor from ollm-daemon, with Eglot  -*- lexical-binding: t -*-

;; Copy to a folder in `load-path'.  Then:
;;
;;     (require 'ollm)
;;     (ollm-setup 'python-mode 'rust-mode)
;;     (add-hook 'python-mode-hook #'eglot-ensure)
;;
;; Eglot speaks with the daemon, and this file shows what it offers as a shadow at the cursor:
;; TAB accepts, M-<right> accepts a word, C-g dismisses, M-] asks for others.

;;; Code:

(require 'cl-lib)
(require 'eglot)
(require 'jsonrpc)

(defgroup ollm nil "Text at the cursor from ollm-daemon." :group 'tools)

(defcustom ollm-command '("ollm-daemon")
  "How the daemon is started." :type '(repeat string))

(defcustom ollm-daemon-file nil
  "The file that `ollm-daemon --tcp PORT' names: a daemon that runs already."
  :type '(choice (const nil) file))

(defcustom ollm-settings nil
  "Settings, such as (:model \"qwen2.5-coder\" :completion (:popup t))."
  :type 'plist)

(defclass ollm-server (eglot-lsp-server) () "The daemon.")

(defun ollm--daemon ()
  "What `ollm-daemon-file' says."
  (and ollm-daemon-file
       (with-temp-buffer
         (insert-file-contents (expand-file-name ollm-daemon-file))
         (json-parse-buffer :object-type 'plist))))

(defun ollm-contact (&rest _)
  "How Eglot reaches the daemon."
  (let ((daemon (ollm--daemon)))
    (cons 'ollm-server
          (if daemon (list (plist-get daemon :host) (plist-get daemon :port)) ollm-command))))

(defun ollm-setup (&rest modes)
  "Let Eglot use the daemon in MODES."
  (add-to-list 'eglot-server-programs (cons modes #'ollm-contact))
  (add-hook 'eglot-managed-mode-hook #'ollm--follow-eglot))

(cl-defmethod eglot-initialization-options ((_ ollm-server))
  "The daemon's token, and the user's settings."
  (append (and ollm-daemon-file (list :token (plist-get (ollm--daemon) :token)))
          (list :userSettings (or ollm-settings (make-hash-table)))))

(cl-defmethod eglot-handle-notification
  ((_ ollm-server) (_ (eql ollm/completion/didChange)) &key state message &allow-other-keys)
  "Say once when nothing can be offered, and when it can again."
  (message "ollm: %s" (or message state)))

;; What is shown

(defvar-local ollm--offer nil "The overlay that shows an offer, or nil.")
(defvar-local ollm--items nil "Offers at the cursor.")
(defvar-local ollm--kind nil "How they were asked for: 2 by itself, 1 by the user.")
(defvar-local ollm--asked 0 "Number of the latest question.")

(defvar ollm-offer-map
  (let ((map (make-sparse-keymap)))
    (define-key map (kbd "TAB") #'ollm-accept)
    (define-key map (kbd "<tab>") #'ollm-accept)
    (define-key map (kbd "M-<right>") #'ollm-accept-word)
    (define-key map (kbd "C-g") #'ollm-dismiss)
    map)
  "Keys while an offer is shown.")

(add-to-list 'minor-mode-map-alist (cons 'ollm--offer ollm-offer-map))

(define-minor-mode ollm-mode
  "Show what the daemon offers at the cursor."
  :lighter " ollm"
  :keymap (let ((map (make-sparse-keymap))) (define-key map (kbd "M-]") #'ollm-next) map)
  (if ollm-mode
      (add-hook 'post-command-hook #'ollm--after-command nil t)
    (remove-hook 'post-command-hook #'ollm--after-command t)
    (ollm--clear)))

(defun ollm--follow-eglot ()
  "Turn `ollm-mode' on where Eglot speaks with the daemon."
  (ollm-mode (if (and (eglot-managed-p) (cl-typep (eglot-current-server) 'ollm-server)) 1 -1))
  (when ollm-mode
    ;; Emacs would ask about a connection when it ends.
    (set-process-query-on-exit-flag (jsonrpc--process (eglot-current-server)) nil))
  (when (and ollm-mode (buffer-modified-p))
    ;; The user has begun to type; Eglot tells of the buffer right after this hook.
    (run-with-timer 0 nil #'ollm--ask-in (current-buffer))))

(defun ollm--ask-in (buffer)
  "Ask for text at the cursor in BUFFER, if it is the current one."
  (when (eq buffer (window-buffer))
    (with-current-buffer buffer (ollm-ask 2))))

(defun ollm--clear ()
  "Take the offer off the screen."
  (when ollm--offer
    (delete-overlay ollm--offer)
    (setq ollm--offer nil)))

(defun ollm--draw ()
  "Show the first of the offers."
  (ollm--clear)
  (let ((text (propertize (plist-get (car ollm--items) :insertText) 'face 'shadow)))
    (put-text-property 0 1 'cursor t text)
    (setq ollm--offer (make-overlay (point) (point)))
    (overlay-put ollm--offer 'after-string text)))

(defvar-local ollm--tick nil "`buffer-chars-modified-tick' when the last command was over.")

(defun ollm--after-command ()
  "Ask when the text has changed, and forget the offer when the cursor has moved."
  (let ((tick (buffer-chars-modified-tick)))
    (unless (and ollm--offer (eq tick ollm--tick) (= (point) (overlay-start ollm--offer)))
      (ollm--clear))
    (when (and ollm--tick (/= tick ollm--tick))
      (ollm-ask 2))
    (setq ollm--tick tick)))

(defun ollm-ask (kind)
  "Ask for text at the cursor; KIND is 2 by itself, 1 by the user."
  (interactive (list 1))
  (ollm--clear)
  (let ((buffer (current-buffer)) (point (point)) (tick (buffer-chars-modified-tick))
        (number (cl-incf ollm--asked)))
    (eglot--signal-textDocument/didChange)
    ;; The daemon answers an older question at once when a newer one comes.
    (jsonrpc-async-request
     (eglot-current-server) :textDocument/inlineCompletion
     (append (eglot--TextDocumentPositionParams) `(:context (:triggerKind ,kind)))
     :error-fn #'ignore
     :timeout-fn #'ignore
     :success-fn
     (lambda (result)
       (when (buffer-live-p buffer)
         (with-current-buffer buffer
           (let ((items (append (plist-get result :items) nil)))
             (when (and items (= number ollm--asked) (= point (point))
                        (= tick (buffer-chars-modified-tick)))
               (setq ollm--items items ollm--kind kind)
               (ollm--draw)))))))))

;; What is done with it

(defun ollm-accept ()
  "Insert the offer, and tell the daemon so by the command that came with it."
  (interactive)
  (let ((item (car ollm--items)))
    (ollm--clear)
    (undo-boundary)
    (insert (plist-get item :insertText))
    (let ((command (plist-get item :command)))
      (jsonrpc-async-request
       (eglot-current-server) :workspace/executeCommand
       (list :command (plist-get command :command) :arguments (plist-get command :arguments))
       :success-fn #'ignore :error-fn #'ignore))))

(defun ollm-accept-word ()
  "Insert the next word of the offer; the rest is shown again."
  (interactive)
  (let ((text (plist-get (car ollm--items) :insertText)))
    (string-match "\\`[ \t\r\n]*\\([[:alnum:]_]+\\|[^[:alnum:]_ \t\r\n]+\\)?" text)
    (ollm--clear)
    (insert (match-string 0 text))
    (jsonrpc-notify (eglot-current-server) :ollm/completion/feedback
                    (list :event "partiallyAccepted" :characters (match-end 0)))))

(defun ollm-next ()
  "Show another offer; ask for several after one that came by itself."
  (interactive)
  (if (or (null ollm--offer) (eql ollm--kind 2))
      (ollm-ask 1)
    (setq ollm--items (append (cdr ollm--items) (list (car ollm--items))))
    (ollm--draw)))

(defun ollm-dismiss ()
  "Take the offer off the screen until the next key."
  (interactive)
  (ollm--clear)
  (jsonrpc-notify (eglot-current-server) :ollm/completion/feedback '(:event "rejected")))

(provide 'ollm)
;;; ollm.el ends here
