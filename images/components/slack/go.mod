module components.sampan/slack

go 1.26.0
