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
    r"\b(?:after|following)\s+(?:you\s+|the\s+|this\s+|an?\s+|a\s+successful\s+)?(?:upgrad\w*|updat\w*|deploy\w*|migrat\w*)\s*[,:]?\s+(?:you|run|execute|please|do|make|log|go|open|restart|re-?deploy|check|set|remove|delete|add|visit|flush|clear|wait|reset|change|verify)\b",
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
    // What is gone, is called otherwise, or is elsewhere.
    r"\b(?:env|environment(?:al)?|variables?|settings?|options?|secrets?|volumes?|services?|containers?|backends?|databases?|configs?|configuration|support)\b(?:[^.\n]|\.[a-z0-9]){0,60}\b(?:removed|renamed|replaced|deprecated|dropped|shortened)\b",
    r"\b(?:remov(?:es?|ed|ing|al\s+of)|renam(?:es?|ed|ing)|replac(?:es?|ed|ing)|deprecat(?:es?|ed)|drop(?:s|ped)?)\s+(?:\S+\s+){0,4}(?:env|environment(?:al)?|variables?|settings?|options?|secrets?|volumes?|services?|containers?|backends?|databases?|configs?|configuration|support)\b",
    r"\b(?:paths?|mount\w*|volumes?|folders?|director(?:y|ies)|locations?|variables?|settings?|options?|formats?|urls?|defaults?)\b(?:[^.\n]|\.[a-z0-9]){0,40}\b(?:changed|moved|differs?|(?:is|are)\s+now)\b",
    r"\b(?:paths?|mount\w*|volumes?|folders?|director(?:y|ies)|defaults?)\b(?:[^.\n]|\.[a-z0-9]){0,40}\bnow\b",
    r"\bchang(?:es?|ed)\s+(?:\S+\s+){0,2}defaults?\b",
    r"\b(?:no\s+longer|not)\s+(?:be\s+)?(?:support\w*|recogni[sz]\w*|accept\w*|available|possible|valid|allowed)\b",
    r"\bcan\s+no\s+longer\b",
    // In which order.
    r"\b(?:(?:do\s+not|don't|never|can\s?not|can't)\s+)?skip(?:s|ped|ping)?\s+(?:an?\s+|any\s+|the\s+|over\s+)?(?:major|minor|versions?|releases?|upgrades?|v?\d)",
    r"\bfirst\s+(?:deploy|upgrade|update|install|migrate)\b|\b(?:deploy|upgrade|update|install|migrate)\s+(?:\S+\s+){1,3}first\b",
    // A copy of the data, and what reads it.
    r"\bback(?:ing)?[\s-]?ups?\b(?:[^.\n]|\.[a-z0-9]){0,50}\b(?:before|first|beforehand|prior)\b|\b(?:before|beforehand|prior)\b(?:[^.\n]|\.[a-z0-9]){0,50}\bback[\s-]?ups?\b",
    r"\b(?:have|make|take|create)\s+(?:an?\s+)?(?:\w+\s+)?(?:backup|snapshot|dump)s?\b|\btaking\s+(?:an?\s+)?(?:\w+\s+)?(?:backup|dump)\b",
    r"\b(?:can\s?not|can't|unable\s+to|refuses?\s+to|will\s+not|won't)\s+(?:read|open|recogni[sz]e|start\s+(?:on|with))\b",
    r"\bempty\s+(?:database|db|volume)\b",
    r"\bexported\b(?:[^.\n]|\.[a-z0-9]){0,80}\bimported\b",
    r"\b(?:postgres\w*|mariadb|mysql|mongo\w*|clickhouse)\b(?:[^.\n]|\.[a-z0-9]){0,20}\d\S*\s*(?:-+>|=>|→|to)\s*v?\d",
    r"\b(?:upgrad\w*|mov\w*|switch\w*|migrat\w*)\s+(?:the\s+|from\s+|to\s+)?(?:\w+\s+)?(?:(?:postgres\w*|mariadb|mysql|mongo\w*|clickhouse)|sqlite)\b|\b(?:from|replac\w+)\s+(?:(?:postgres\w*|mariadb|mysql|mongo\w*|clickhouse)|sqlite|redis)\s+(?:to|by|with)\b|\b(?:(?:postgres\w*|mariadb|mysql|mongo\w*|clickhouse)|sqlite)\s+is\s+(?:now\s+)?used\s+now\b",
    // What is needed now.
    r"\b(?:is|are|becomes?)\s+(?:now\s+|also\s+)?(?:required|mandatory|necessary|needed)\b",
    r"\b(?:needs?|requires?)\s+(?:an?\s+|the\s+|some\s+|your\s+|to\s+)?(?:be\s+)?(?:\w+\s+){0,2}(?:migrat\w*|re-?index\w*|re-?build\w*|recompil\w*|re-?creat\w*|dump|set|chang\w*|token|secrets?|variables?|config\w*)\b",
    r"\brequires?\s+(?:at\s+least\s+)?(?:postgres\w*|mysql|mariadb|redis|valkey|mongo\w*|elasticsearch|opensearch|docker|abra|traefik|an?\s)|\b(?:needs?|requires?)\s+at\s+least\b|(?:>=|≥)\s*v?\d|\bminimum\s+(?:\w+\s+)?version\b",
    r"\brequired\s+(?:env\w*|variables?|settings?|options?|config\w*|secrets?)\b",
    r"\b(?:migrations?|upgrade|update|re-?index\w*)\s+(?:\w+\s+)?(?:may|might|can|could|will|runs?|takes?)\s+(?:\w+\s+){0,2}(?:take|longer|slow|hours?|minutes?|for)\b",
    r"\b(?:some|expect\w*|long|longer|requires?)\s+(?:\w+\s+)?downtime\b|\bdowntime\s+(?:is\s+)?(?:expected|required|needed|of)\b",
    // Whom it is about.
    r"\bif\s+you\b",
    r"\bexisting\s+(?:users?|accounts?|install\w*|instances?|deploy\w*|setups?|volumes?|databases?|apps?|secrets?)\b",
    r"\b(?:users?|everybody|everyone|people)\s+(?:will\s+|may\s+)?(?:have\s+to|need|must)\b|\blogged\s+out\b|\blog\s+(?:back\s+)?in\s+again\b",
    r"\b(?:see|read|check|consult|follow|refer\s+to|look\s+at)\s+(?:\S+\s+){0,3}(?:read\s?me|docs?|documentation|wiki|guide|instructions?|(?:upgrad\w+|migration)\s+notes?)\b",
    // What is written to be done.
    r"(?:^|\n|[.:;!>)]\s)[\s>#\d.)-]*(?:move|chown|chmod|re-?index|re-?create|dump|execute|re-?deploy|rotate|insert|re-?generate|edit|adapt|adjust)\s+(?:your|the|all|this|these|it)\b",
    r"\brun\s+(?:the\s+following|this|these|(?:the\s+)?(?:pre|post)-\S+)\b",
    r"\bswitch\s+to\b",
    r#"(?:^|[\s(/"\x27])\.env\b"#,
    r"\bcompose\.[\w.-]+\.ya?ml\b",
    r"\b(?:set|add|rename|remove|change|replace|use|unset|bump)\s+(?:the\s+|your\s+)?(?:new\s+)?(?:env\w*\s+|variables?\s+)*[`'*]*(?-i:\b[A-Z][A-Z0-9]*_[A-Z0-9_]+)|\b(?:renam\w+|remov\w+|replac\w+|deprecat\w+)\s+(?:the\s+)?(?:\w+\s+)?[`'*]*(?-i:\b[A-Z][A-Z0-9]*_[A-Z0-9_]+)|(?-i:\b[A-Z][A-Z0-9]*_[A-Z0-9_]+)[`'*]*\s*(?:-+>|=>|→|\b(?:is|was|needs?|must|now|chang\w+|takes?)\b)",
    r"\b(?:txt|mx|srv|cname)\s+records?\b|\bdns\s+(?:records?|entr\w+)\b",
    r"\b(?:must|ha(?:s|ve)\s+to|needs?\s+to)\s+be\s+\w+(?:ed|set|run|built|reset|rebuilt|rerun)\b",
    r"\b(?:change|adapt|adjust|update|edit|flush|clear|compare|reset|bump|rename|move|copy)\s+(?:it|them|your)\b",
    r"\byour\s+(?:apps?|setup|instances?|deployments?|server|config\w*|provider|proxy|environment|secrets?|volumes?|database|data|domain)\b",
    r"\bdo\s+(?:\S+\s+){1,4}first\b",
    // What cannot be undone, or takes its time.
    r"\bone-way\b|\bno\s+way\s+back\b|\birreversibl\w+|\bno\s+downgrad\w*",
    r"\b(?:might|may|will|could)\s+(?:lose|be\s+lost)\b",
    r"\btakes?\s+(?:\w+\s+){0,2}(?:hours?|minutes?)\b",
    r"\b(?:recommend|suggest|advis)\w*\b(?:[^.\n]|\.[a-z0-9]){0,40}\b(?:backups?|back\s+up|snapshots?)\b",
    // In other words.
    r"(?:^|\n)\W*breaking\W*(?:\n|$)|\bbreaking\s+(?:release|update|upgrade|version)\b",
    r"\b(?:manuell\w*|bitte|achtung|wichtig|veuillez|manuel(?:le|lement|s)?|manualmente)\b|\bvor\s+dem\s+(?:update|upgrade|deploy\w*)\b|\bavant\s+(?:de\s+)?(?:la\s+)?(?:mise|mettre)\b|\bantes\s+de\s+(?:actualizar|migrar)\b",
    // Words that shout.
    r"(?:^|\n|[.!>]\s)[\s>#!⚠️🚨❗-]*(?:important|attention|warning|caution|danger|note|heads[\s-]?up)\b\s*(?:[:!-]|\n|$)",
    r"[⚠🚨❗]",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::markers::Markers;

    fn found(text: &str) -> Vec<String> {
        let markers = Markers::of(&DEFAULT.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()).unwrap();
        markers.find(text).into_iter().map(|found| found.phrase).collect()
    }

    #[test]
    fn what_maintainers_ask_for_in_their_own_words_holds() {
        let texts = [
            "Do not restart before the migration has finished.",
            "Do not change settings before you upgrade.",
            "Don't change the environment variables before the update.",
            "A secret that is not in your environment must be added.",
            "Variables that are not in your environment must be set.",
            "No restart before the migration has finished!",
            "The search backend was removed. Use another one, the readme says how",
            "MAIL_HOST => SMTP_HOST",
            "Renamed the environment variables of the mailer",
            "`SMTP_USER` is now `MAIL_USER`",
            "MAIL_FROM was renamed to `SMTP_FROM`",
            "set MEMORY_LIMIT, in megabytes",
            "Some lines of .env differ",
            "compose.smtp.yml got another name",
            "sqlite is no longer supported",
            "The option is not recognized any more",
            "The mount path changed",
            "The default for sign-up is now closed",
            "Do not skip 2.1.0",
            "Skipping a major release does not work",
            "First deploy 2.0.0, then this one",
            "Do the 3.0.0 upgrade first",
            "Make a backup first!",
            "We recommend a backup",
            "PostgreSQL 17 cannot read data files of 15",
            "Postgres 15 -> 17",
            "migrated from mariadb to postgres",
            "It would start on an empty database",
            "A reindex is needed",
            "TOKEN is mandatory",
            "needs a db migration",
            "Requires PostgreSQL 14",
            "needs at least 4 GB",
            "The migration may take hours",
            "Expect some downtime",
            "If you use S3: another endpoint",
            "Existing instances keep their theme",
            "Everybody has to log in again",
            "Passwords have to be reset",
            "See the wiki for the steps",
            "Reindex your search",
            "chown the volume to 1000",
            "Run the following: `rake x`",
            "Adjust your proxy",
            "A one-way upgrade",
            "This takes about two hours",
            "Add a TXT record",
            "## Breaking\n\n- sqlite",
            "NOTE: the port",
            "Bitte zuerst ein Backup anlegen",
            "Veuillez sauvegarder",
        ];
        let missed: Vec<_> = texts.into_iter().filter(|text| found(text).is_empty()).collect();
        assert_eq!(missed, Vec::<&str>::new());
    }

    #[test]
    fn what_asks_for_nothing_passes() {
        for text in [
            "Updates the image to 29.0.4",
            "Security release, see CVE-2030-1234",
            "Bumps redis to 7.2.4",
            "Updates the postgres client library",
            "Improves the performance of the search",
            "Uses the official image",
            "Upstream changelog: https://example.org/changelog",
            "Database migrations run on startup; nothing to do.",
            "No breaking changes. No configuration changes.",
            "No changes to the configuration are needed.",
            "No restart is required.",
            "No backup is needed",
            "Nothing is required of you.",
            "Fully backwards compatible.",
            "Log level can be set with LOG_LEVEL.",
            "Settings page has a dark mode now.",
            "Users can now set a status.",
            "Adds options to the settings menu.",
            "Fixes a crash when a user has no avatar",
            "New version, no changes needed.",
            "Adds support for S3 (opt-in).",
            "Now built on alpine 3.20",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }
}
