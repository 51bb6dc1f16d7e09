//! The phrases that hold an update by default: what maintainers of recipes write when an operator has work to do.

/// Regular expressions, case-insensitive, that hold an update by default. They see each paragraph as one line, without
/// Markdown's emphasis and with single spaces.
pub const DEFAULT: &[&str] = &[
    // Work by hand.
    r"\bmanual(?:ly)?[\s-]+(?:\w+\s+){0,2}(?:migrat\w*|steps?|actions?|interventions?|upgrad\w*|updat\w*|work|chang\w*|task\w*|process\w*|conver\w*)",
    r"\bmanually\b",
    r"\bby hand\b",
    r"\b(?:migrat\w*|steps?|upgrad\w*|chang\w*)\s+(?:must|need(?:s|ed)? to|ha(?:s|ve) to|should)\s+be\s+(?:done|made|run|performed|executed|applied)",
    r"\bmigration\s+(?:steps?|guide|instructions?|notes?|is\s+(?:needed|required|necessary)|(?:needed|required|necessary))",
    r"\bupgrad(?:e|ing)\s+(?:steps|guide|instructions?|procedure)\b",
    // What breaks.
    r"\bbreaking[\s-]+(?:\w+\s+)?changes?\b",
    r"\bbreaking\s*[:!]",
    r"\bbreaks?\s+(?:\w+\s+)?(?:backwards?[\s-]+)?compatib\w+",
    r"\b(?:backwards?|forwards?)[\s-]+incompatib\w+",
    r"\bincompatible\s+(?:with|chang\w*|data|format)",
    r"\bnot\s+(?:be\s+)?(?:backwards?|forwards?)[\s-]+compatible",
    r"\b(?:data\s+loss|(?:lose|losing)\s+(?:\w+\s+)?data|data\s+(?:will\s+be|is|are|gets?)\s+(?:lost|deleted|removed))",
    r"\b(?:can\s?not|can't|no way to|impossible to)\s+(?:be\s+)?(?:downgrad\w*|roll(?:ed)?\s+back|revert\w*)",
    r"\b(?:do\s+not|don't)\s+(?:upgrade|update|deploy)",
    // Who has to act.
    r"\b(?:operator|admin\w*|user|maintainer)s?\s+(?:action|intervention|attention)s?\b",
    r"\b(?:actions?|interventions?|attention)\s+(?:is\s+|are\s+)?(?:required|needed|necessary)",
    r"\brequires?\s+(?:an?\s+|some\s+|your\s+)?(?:\w+\s+)?(?:actions?|interventions?|attention|migration)\b",
    r"\b(?:you|operators?|admins?|administrators?|deployers?|hosters?)(?:'ll|\s+will)?\s+(?:must|need\s+to|have\s+to|ought\s+to|should|are\s+required\s+to|need\s+a)\b",
    r"\bmust\s+(?:now\s+|first\s+|also\s+)?(?:be\s+)?(?:run|re-?run|migrat\w*|upgrad\w*|updat\w*|set|chang\w*|back(?:ed)?\s+up|remov\w*|delet\w*|renam\w*|re-?creat\w*|re-?generat\w*|add\w*|adapt\w*|adjust\w*|configur\w*|insert\w*|dump\w*|restor\w*|convert\w*|execut\w*|present|manual\w*)",
    // When.
    r"\b(?:before|prior\s+to)\s+(?:you\s+|the\s+|this\s+|an?\s+|any\s+)?(?:upgrad\w*|updat\w*|deploy\w*|migrat\w*)",
    r"\b(?:after|following)\s+(?:you\s+|the\s+|this\s+|an?\s+|a\s+successful\s+)?(?:upgrad\w*|updat\w*|deploy\w*|migrat\w*)\s*[,:]?\s+(?:you|run|execute|please|do|make|log|go|open|restart|re-?deploy|check|set|remove|delete|add)\b",
    r"\b(?:please|remember\s+to|make\s+sure\s+(?:to|that|you)|be\s+sure\s+to|don't\s+forget|do\s+not\s+forget|ensure\s+that\s+you)\s+(?:\w+\s+){0,2}(?:run|execut\w*|migrat\w*|back\s?up|backup|dump|set|add|remov\w*|delet\w*|renam\w*|rotat\w*|insert\w*|generat\w*|updat\w*|chang\w*|edit|adapt|adjust|check|compare|review|configure|re-?deploy|undeploy|to)\b",
    r"\b(?:back\s?up|take\s+(?:a\s+)?backups?\s+of|make\s+(?:a\s+)?backups?\s+of)\s+(?:your|the|all)\b",
    r"\b(?:dump|export)\s+(?:and\s+(?:restore|import|reload)|your|the)\b",
    r"\bpg[\s-]?(?:upgrade|dump\w*)\b",
    r"\b(?:postgres\w*|mariadb|mysql|mongo\w*|redis|elasticsearch)\s+(?:major\s+)?(?:version\s+)?(?:upgrade|migration)\s+(?:is\s+)?(?:needed|required|necessary)",
    // Secrets and settings.
    r"\b(?:new|additional|renamed?|rotat\w+|regenerat\w+|generat\w+|insert\w*|creat\w+)\s+(?:an?\s+|the\s+|all\s+|this\s+|your\s+)?(?:new\s+)?(?:required\s+|mandatory\s+)?secrets?\b",
    r"\bnew\s+(?:required|mandatory)\s+(?:env\w*|variables?|settings?|options?|config\w*)",
    r"\b(?:env\w*|variables?|settings?|secrets?|volumes?|options?)(?:\s+\S+)?\s+(?:was|were|has\s+been|have\s+been|is\s+now|are\s+now|got)\s+(?:renamed|required|mandatory)",
    r"\b(?:in|to|from|edit|update|check|compare|adapt|adjust|change|review)\s+(?:your|the\s+app's|the\s+apps?)\s+(?:\.?env\b|env\s+file|app\s+config\w*|config\w*)",
    r"\babra\s+(?:app\s+)?(?:\S+\s+)?(?:cmd|command|run|secrets?|config|volumes?|undeploy|remove|rm|restore|backup)\b",
    r"\bdocker\s+(?:exec|volume|secret|config|service)\b",
    // Words that shout.
    r"(?:^|\n|[.!>]\s)[\s>#!⚠️🚨❗-]*(?:important|attention|warning|caution|danger|heads[\s-]?up)\b\s*(?:[:!-]|\n|$)",
    r"[⚠🚨❗]",
];
