"""The pipeline `tune-large-chat-model`: Google's template of that name for chats, mirrored."""

from sft_pipelines.legacy_templates import legacy_template

tune_large_chat_model = legacy_template(
    "tune-large-chat-model",
    "chat or code chat",
    # The old default, text-bison@001, takes no chats: every run without a reference failed.
    default="chat-bison@002",
    families=("chat", "codechat"),
)
